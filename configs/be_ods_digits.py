"""Diversity Matters with ODS (Nam et al., 2021) on scikit-learn's digits.

Distilled where a random output direction moves a member.

python -m ensdistill.main --config=configs/be_ods_digits.py

Three students together on two busy CPU cores: 521 s. Measured (three seeds, the student):
ACC 97.96 ± 0.09 %, NLL 0.0715 ± 0.0023; one member 0.0796 ± 0.0034.
"""

from configs import common


def get_config(variant=''):
  return common.make('be_ods', 'digits', variant)
