"""Knowledge distillation on scikit-learn's digits.

One network learns the ensemble's mean prediction.

python -m ensdistill.main --config=configs/kd_digits.py
"""

from configs import common


def get_config(variant=''):
  return common.make('kd', 'digits', variant)
