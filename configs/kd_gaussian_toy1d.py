"""Distillation to the ensemble's mean Gaussian on noisy inputs, on a toy in one dimension.

python -m ensdistill.main --config=configs/kd_gaussian_toy1d.py
"""

from configs import common


def get_config(variant=''):
  return common.make('kd_gaussian', 'toy1d', variant)
