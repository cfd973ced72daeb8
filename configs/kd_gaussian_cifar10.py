"""Knowledge distillation on Gaussian-perturbed inputs on CIFAR-10.

The control for perturbations by gradient.

python -m ensdistill.main --config=configs/kd_gaussian_cifar10.py
python -m ensdistill.main --config=configs/kd_gaussian_cifar10.py:small
"""

from configs import common


def get_config(variant=''):
  return common.make('kd_gaussian', 'cifar10', variant)
