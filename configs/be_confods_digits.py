"""Diversity Matters with ConfODS (Nam et al., 2021) on scikit-learn's digits.

ODS, scaled by confidence.

python -m ensdistill.main --config=configs/be_confods_digits.py
"""

from configs import common


def get_config(variant=''):
  return common.make('be_confods', 'digits', variant)
