"""LatentBE (Nam et al., 2022) on scikit-learn's digits.

A BatchEnsemble student averaged into one plain network.

python -m ensdistill.main --config=configs/latentbe_digits.py
"""

from configs import common


def get_config(variant=''):
  return common.make('latentbe', 'digits', variant)
