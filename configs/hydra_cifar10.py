"""Hydra (Tran et al., 2020) on CIFAR-10: one body, and a head for each member of the ensemble.

python -m ensdistill.main --config=configs/hydra_cifar10.py
python -m ensdistill.main --config=configs/hydra_cifar10.py:small
"""

from configs import common


def get_config(variant=''):
  return common.make('hydra', 'cifar10', variant)
