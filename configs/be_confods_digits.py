"""Diversity Matters with ConfODS (Nam et al., 2021) on scikit-learn's digits.

ODS, scaled by confidence.

python -m ensdistill.main --config=configs/be_confods_digits.py

Three students together on two busy CPU cores: 340 s. Measured (three seeds, the student):
ACC 98.13 ± 0.15 %, NLL 0.0721 ± 0.0010; one member 0.0796 ± 0.0034.
"""

from configs import common


def get_config(variant=''):
  return common.make('be_confods', 'digits', variant)
