"""A Prior Network (Malinin and Gales, 2018) on CIFAR-100: labels and auxiliary inputs, no ensemble.

python -m ensdistill.main --config=configs/pn_cifar100.py
python -m ensdistill.main --config=configs/pn_cifar100.py:small

Network, augmentation and ensemble are EnD²'s: VGG-16.

One GPU or TPU: the full recipe has not been run yet. Two CPU cores: `:small`, within minutes.
Expected of this network, as Malinin et al. (2020) report it (± two standard deviations): error 28.0
± 0.7 %, NLL 1.87 ± 0.03 (an ensemble of 100: 26.3 %, 0.88; one network: 30.4 ± 0.3 %, 1.16 ± 0.03).
"""

from configs import common


def get_config(variant=''):
  return common.make('pn', 'cifar100', variant)
