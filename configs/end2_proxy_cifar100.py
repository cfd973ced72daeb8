"""Proxy-EnD² (Ryabinin et al., 2021) on CIFAR-100.

A Dirichlet close to a proxy fitted to the members'.

python -m ensdistill.main --config=configs/end2_proxy_cifar100.py
python -m ensdistill.main --config=configs/end2_proxy_cifar100.py:small

Network, augmentation and ensemble are EnD²'s: VGG-16.

One GPU or TPU: the full recipe has not been run yet. Two CPU cores: `:small`, within minutes.
Expected numbers: none of a paper with this setting is at hand. Errors that EnD²'s paper has for
this network: EnD² 27.9 ± 0.3 %, an ensemble of 100: 26.3 %.
"""

from configs import common


def get_config(variant=''):
  return common.make('end2_proxy', 'cifar100', variant)
