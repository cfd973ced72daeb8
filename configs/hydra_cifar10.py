"""Hydra (Tran et al., 2020) on CIFAR-10: one body, and a head for each member of the ensemble.

python -m ensdistill.main --config=configs/hydra_cifar10.py
"""

from ensdistill.config import recipes

get_config = recipes.config('hydra', 'cifar10')
