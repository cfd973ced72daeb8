"""Hydra on ConfODS inputs on CIFAR-100.

Heads matched where the members disagree; no paper tried it.

python -m ensdistill.main --config=configs/hydra_confods_cifar100.py
python -m ensdistill.main --config=configs/hydra_confods_cifar100.py:small
"""

from configs import common


def get_config(variant=''):
  return common.make('hydra_confods', 'cifar100', variant)
