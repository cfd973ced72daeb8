"""Distillation to the ensemble's mean Gaussian on noisy inputs, on scikit-learn's diabetes.

python -m ensdistill.main --config=configs/kd_gaussian_diabetes.py
"""

from configs import common


def get_config(variant=''):
  return common.make('kd_gaussian', 'diabetes', variant)
