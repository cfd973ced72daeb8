"""Diversity Matters with ConfODS (Nam et al., 2021) on CIFAR-10: ODS, scaled by confidence.

python -m ensdistill.main --config=configs/be_confods_cifar10.py
"""

from ensdistill.config import recipes

get_config = recipes.config('be_confods', 'cifar10')
