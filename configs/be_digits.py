"""A BatchEnsemble on labels alone on scikit-learn's digits: the control without a teacher.

python -m ensdistill.main --config=configs/be_digits.py
"""

from configs import common


def get_config(variant=''):
  return common.make('be', 'digits', variant)
