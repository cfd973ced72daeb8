"""A BatchEnsemble distilled member by member on noisy inputs, on scikit-learn's diabetes.

python -m ensdistill.main --config=configs/be_gaussian_diabetes.py
"""

from configs import common


def get_config(variant=''):
  return common.make('be_gaussian', 'diabetes', variant)
