"""BatchEnsemble distillation on Gaussian-perturbed inputs on CIFAR-100.

A control of Diversity Matters.

python -m ensdistill.main --config=configs/be_gaussian_cifar100.py
python -m ensdistill.main --config=configs/be_gaussian_cifar100.py:small
python -m ensdistill.main --config=configs/be_gaussian_cifar100.py:paper
"""

from configs import common


def get_config(variant=''):
  return common.make('be_gaussian', 'cifar100', variant)
