"""A Normal-Wishart over the ensemble (Malinin et al., 2020) on scikit-learn's diabetes.

python -m ensdistill.main --config=configs/nw_diabetes.py
"""

from configs import common


def get_config(variant=''):
  return common.make('nw', 'diabetes', variant)
