"""Hydra on ConfODS inputs on CIFAR-100.

python -m ensdistill.main --config=configs/hydra_confods_cifar100.py
"""

from ensdistill.config import recipes

get_config = recipes.config('hydra_confods', 'cifar100')
