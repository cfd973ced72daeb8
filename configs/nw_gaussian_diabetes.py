"""A Normal-Wishart over the ensemble on noisy inputs, on scikit-learn's diabetes.

python -m ensdistill.main --config=configs/nw_gaussian_diabetes.py
"""

from configs import common


def get_config(variant=''):
  return common.make('nw_gaussian', 'diabetes', variant)
