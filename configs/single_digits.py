"""A single network on labels alone on scikit-learn's digits.

The control that distillation must beat.

python -m ensdistill.main --config=configs/single_digits.py
"""

from configs import common


def get_config(variant=''):
  return common.make('single', 'digits', variant)
