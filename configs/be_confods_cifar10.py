"""Diversity Matters with ConfODS (Nam et al., 2021) on CIFAR-10: ODS, scaled by confidence.

python -m ensdistill.main --config=configs/be_confods_cifar10.py
python -m ensdistill.main --config=configs/be_confods_cifar10.py:small
"""

from configs import common


def get_config(variant=''):
  return common.make('be_confods', 'cifar10', variant)
