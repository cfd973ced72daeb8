"""LatentBE (Nam et al., 2022) on scikit-learn's digits.

A BatchEnsemble student averaged into one plain network.

python -m ensdistill.main --config=configs/latentbe_digits.py

Three students together on two busy CPU cores: 208 s. Measured (three seeds, the averaged network):
ACC 97.96 ± 0.20 %, NLL 0.0794 ± 0.0057; one member 0.0796 ± 0.0034.
"""

from configs import common


def get_config(variant=''):
  return common.make('latentbe', 'digits', variant)
