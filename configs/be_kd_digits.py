"""BatchEnsemble distillation on scikit-learn's digits.

Member m learns from teacher m; the baseline of Diversity Matters.

python -m ensdistill.main --config=configs/be_kd_digits.py
"""

from configs import common


def get_config(variant=''):
  return common.make('be_kd', 'digits', variant)
