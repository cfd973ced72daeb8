"""A single Gaussian regressor on labels alone on a toy in one dimension: the control.

python -m ensdistill.main --config=configs/single_toy1d.py
"""

from configs import common


def get_config(variant=''):
  return common.make('single', 'toy1d', variant)
