"""A BatchEnsemble distilled member by member on scikit-learn's diabetes.

python -m ensdistill.main --config=configs/be_kd_diabetes.py
"""

from configs import common


def get_config(variant=''):
  return common.make('be_kd', 'diabetes', variant)
