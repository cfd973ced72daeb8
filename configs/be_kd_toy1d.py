"""A BatchEnsemble distilled member by member on a toy in one dimension.

python -m ensdistill.main --config=configs/be_kd_toy1d.py
"""

from configs import common


def get_config(variant=''):
  return common.make('be_kd', 'toy1d', variant)
