"""Hydra (Tran et al., 2020) on CIFAR-10: one body, and a head for each member of the ensemble.

python -m ensdistill.main --config=configs/hydra_cifar10.py
python -m ensdistill.main --config=configs/hydra_cifar10.py:small
python -m ensdistill.main --config=configs/hydra_cifar10.py:paper

`:paper` is ResNet-20 with 50 heads, each the last block, pooling and a dense layer.
The paper's schedule is not known; this one is ours.
"""

from configs import common


def get_config(variant=''):
  return common.make('hydra', 'cifar10', variant)
