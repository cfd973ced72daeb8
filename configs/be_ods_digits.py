"""Diversity Matters with ODS (Nam et al., 2021) on scikit-learn's digits.

Distilled where a random output direction moves a member.

python -m ensdistill.main --config=configs/be_ods_digits.py
"""

from configs import common


def get_config(variant=''):
  return common.make('be_ods', 'digits', variant)
