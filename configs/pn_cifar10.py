"""A Prior Network (Malinin and Gales, 2018) on CIFAR-10: labels and auxiliary inputs, no ensemble.

python -m ensdistill.main --config=configs/pn_cifar10.py
python -m ensdistill.main --config=configs/pn_cifar10.py:small

Network, augmentation and ensemble are EnD²'s: VGG-16.

One GPU or TPU: the full recipe has not been run yet. Two CPU cores: `:small`, within minutes.
Expected of this network, as Malinin et al. (2020) report it (± two standard deviations): error 7.5
± 0.3 % (an ensemble of 100: 6.2 %; one network: 8.0 ± 0.4 %).
"""

from configs import common


def get_config(variant=''):
  return common.make('pn', 'cifar10', variant)
