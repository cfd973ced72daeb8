"""Hydra (Tran et al., 2020) on noisy inputs, on a toy in one dimension.

python -m ensdistill.main --config=configs/hydra_gaussian_toy1d.py
"""

from configs import common


def get_config(variant=''):
  return common.make('hydra_gaussian', 'toy1d', variant)
