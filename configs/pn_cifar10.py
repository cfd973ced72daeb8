"""A Prior Network (Malinin and Gales, 2018) on CIFAR-10: labels and auxiliary inputs, no ensemble.

python -m ensdistill.main --config=configs/pn_cifar10.py
python -m ensdistill.main --config=configs/pn_cifar10.py:small

Network, augmentation and ensemble are EnD²'s: VGG-16.
"""

from configs import common


def get_config(variant=''):
  return common.make('pn', 'cifar10', variant)
