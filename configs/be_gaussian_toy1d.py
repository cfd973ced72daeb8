"""A BatchEnsemble distilled member by member on noisy inputs, on a toy in one dimension.

python -m ensdistill.main --config=configs/be_gaussian_toy1d.py
"""

from configs import common


def get_config(variant=''):
  return common.make('be_gaussian', 'toy1d', variant)
