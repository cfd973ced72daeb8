"""Hydra (Tran et al., 2020) on scikit-learn's diabetes: one body, a head for each member.

python -m ensdistill.main --config=configs/hydra_diabetes.py
"""

from configs import common


def get_config(variant=''):
  return common.make('hydra', 'diabetes', variant)
