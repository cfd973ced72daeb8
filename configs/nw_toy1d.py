"""A Normal-Wishart over the ensemble (Malinin et al., 2020) on a toy in one dimension.

python -m ensdistill.main --config=configs/nw_toy1d.py
"""

from configs import common


def get_config(variant=''):
  return common.make('nw', 'toy1d', variant)
