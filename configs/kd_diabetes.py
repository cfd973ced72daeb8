"""Distillation to the ensemble's mean Gaussian on scikit-learn's diabetes.

python -m ensdistill.main --config=configs/kd_diabetes.py
"""

from configs import common


def get_config(variant=''):
  return common.make('kd', 'diabetes', variant)
