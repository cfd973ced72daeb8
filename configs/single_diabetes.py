"""A single Gaussian regressor on labels alone on scikit-learn's diabetes: the control.

python -m ensdistill.main --config=configs/single_diabetes.py
"""

from configs import common


def get_config(variant=''):
  return common.make('single', 'diabetes', variant)
