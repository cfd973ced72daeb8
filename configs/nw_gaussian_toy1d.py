"""A Normal-Wishart over the ensemble on noisy inputs, on a toy in one dimension.

python -m ensdistill.main --config=configs/nw_gaussian_toy1d.py
"""

from configs import common


def get_config(variant=''):
  return common.make('nw_gaussian', 'toy1d', variant)
