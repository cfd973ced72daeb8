"""Hydra (Tran et al., 2020) on scikit-learn's digits.

One body, and a head for each member of the ensemble.

python -m ensdistill.main --config=configs/hydra_digits.py
"""

from configs import common


def get_config(variant=''):
  return common.make('hydra', 'digits', variant)
