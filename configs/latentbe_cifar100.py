"""LatentBE (Nam et al., 2022) on CIFAR-100.

A BatchEnsemble student averaged into one plain network.

python -m ensdistill.main --config=configs/latentbe_cifar100.py
python -m ensdistill.main --config=configs/latentbe_cifar100.py:small
python -m ensdistill.main --config=configs/latentbe_cifar100.py:paper

`:paper` is WRN-28-4, an ensemble of four and 200 epochs.
"""

from configs import common


def get_config(variant=''):
  return common.make('latentbe', 'cifar100', variant)
