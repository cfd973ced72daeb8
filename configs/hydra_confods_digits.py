"""Hydra on ConfODS inputs on scikit-learn's digits.

Heads matched where the members disagree; no paper tried it.

python -m ensdistill.main --config=configs/hydra_confods_digits.py
"""

from configs import common


def get_config(variant=''):
  return common.make('hydra_confods', 'digits', variant)
