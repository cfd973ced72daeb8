"""Diversity Matters with ConfODS (Nam et al., 2021) on CIFAR-100: ODS, scaled by confidence.

python -m ensdistill.main --config=configs/be_confods_cifar100.py
python -m ensdistill.main --config=configs/be_confods_cifar100.py:small
python -m ensdistill.main --config=configs/be_confods_cifar100.py:paper
"""

from configs import common


def get_config(variant=''):
  return common.make('be_confods', 'cifar100', variant)
