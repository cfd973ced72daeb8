"""A multi-head network on labels alone on scikit-learn's digits: the control without a teacher.

python -m ensdistill.main --config=configs/multi_head_digits.py
"""

from configs import common


def get_config(variant=''):
  return common.make('multi_head', 'digits', variant)
