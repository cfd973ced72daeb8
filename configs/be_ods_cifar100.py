"""Diversity Matters with ODS (Nam et al., 2021) on CIFAR-100.

Distilled where a random output direction moves a member.

python -m ensdistill.main --config=configs/be_ods_cifar100.py
python -m ensdistill.main --config=configs/be_ods_cifar100.py:small
python -m ensdistill.main --config=configs/be_ods_cifar100.py:paper
"""

from configs import common


def get_config(variant=''):
  return common.make('be_ods', 'cifar100', variant)
