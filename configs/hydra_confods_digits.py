"""Hydra on ConfODS inputs on scikit-learn's digits.

Heads matched where the members disagree; no paper tried it.

python -m ensdistill.main --config=configs/hydra_confods_digits.py

Three students together on two busy CPU cores: 139 s. Measured (three seeds, the student):
ACC 97.86 ± 0.03 %, NLL 0.0704 ± 0.0025; one member 0.0796 ± 0.0034.
"""

from configs import common


def get_config(variant=''):
  return common.make('hydra_confods', 'digits', variant)
