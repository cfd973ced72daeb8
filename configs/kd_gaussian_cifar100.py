"""Knowledge distillation on Gaussian-perturbed inputs on CIFAR-100.

python -m ensdistill.main --config=configs/kd_gaussian_cifar100.py
"""

from ensdistill.config import recipes

get_config = recipes.config('kd_gaussian', 'cifar100')
