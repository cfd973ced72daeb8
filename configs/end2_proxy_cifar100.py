"""Proxy-EnD² (Ryabinin et al., 2021) on CIFAR-100.

A Dirichlet close to a proxy fitted to the members'.

python -m ensdistill.main --config=configs/end2_proxy_cifar100.py
python -m ensdistill.main --config=configs/end2_proxy_cifar100.py:small

Network, augmentation and ensemble are EnD²'s: VGG-16.
"""

from configs import common


def get_config(variant=''):
  return common.make('end2_proxy', 'cifar100', variant)
