"""Diversity Matters with ODS (Nam et al., 2021) on CIFAR-10.

Distilled where a random output direction moves a member.

python -m ensdistill.main --config=configs/be_ods_cifar10.py
python -m ensdistill.main --config=configs/be_ods_cifar10.py:small
"""

from configs import common


def get_config(variant=''):
  return common.make('be_ods', 'cifar10', variant)
