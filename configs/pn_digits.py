"""A Prior Network (Malinin and Gales, 2018) on scikit-learn's digits.

Labels and auxiliary inputs, no ensemble.

python -m ensdistill.main --config=configs/pn_digits.py
"""

from configs import common


def get_config(variant=''):
  return common.make('pn', 'digits', variant)
