"""LatentBE (Nam et al., 2022) on CIFAR-10: a BatchEnsemble student averaged into one plain network.

python -m ensdistill.main --config=configs/latentbe_cifar10.py
python -m ensdistill.main --config=configs/latentbe_cifar10.py:small
"""

from configs import common


def get_config(variant=''):
  return common.make('latentbe', 'cifar10', variant)
