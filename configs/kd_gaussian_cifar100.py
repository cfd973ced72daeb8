"""Knowledge distillation on Gaussian-perturbed inputs on CIFAR-100.

The control for perturbations by gradient.

python -m ensdistill.main --config=configs/kd_gaussian_cifar100.py
python -m ensdistill.main --config=configs/kd_gaussian_cifar100.py:small
"""

from configs import common


def get_config(variant=''):
  return common.make('kd_gaussian', 'cifar100', variant)
