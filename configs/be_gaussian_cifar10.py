"""BatchEnsemble distillation on Gaussian-perturbed inputs on CIFAR-10.

python -m ensdistill.main --config=configs/be_gaussian_cifar10.py
"""

from ensdistill.config import recipes

get_config = recipes.config('be_gaussian', 'cifar10')
