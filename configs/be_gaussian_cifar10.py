"""BatchEnsemble distillation on Gaussian-perturbed inputs on CIFAR-10.

A control of Diversity Matters.

python -m ensdistill.main --config=configs/be_gaussian_cifar10.py
python -m ensdistill.main --config=configs/be_gaussian_cifar10.py:small
"""

from configs import common


def get_config(variant=''):
  return common.make('be_gaussian', 'cifar10', variant)
