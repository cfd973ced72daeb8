"""Distillation to the ensemble's mean Gaussian on a toy in one dimension.

python -m ensdistill.main --config=configs/kd_toy1d.py
"""

from configs import common


def get_config(variant=''):
  return common.make('kd', 'toy1d', variant)
