"""Hydra (Tran et al., 2020) on noisy inputs, on scikit-learn's diabetes.

python -m ensdistill.main --config=configs/hydra_gaussian_diabetes.py
"""

from configs import common


def get_config(variant=''):
  return common.make('hydra_gaussian', 'diabetes', variant)
