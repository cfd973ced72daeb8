"""Hydra on ConfODS inputs on CIFAR-10: heads matched where the members disagree; no paper tried it.

python -m ensdistill.main --config=configs/hydra_confods_cifar10.py
"""

from ensdistill.config import recipes

get_config = recipes.config('hydra_confods', 'cifar10')
