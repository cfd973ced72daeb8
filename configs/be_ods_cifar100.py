"""Diversity Matters with ODS (Nam et al., 2021) on CIFAR-100.

python -m ensdistill.main --config=configs/be_ods_cifar100.py
"""

from ensdistill.config import recipes

get_config = recipes.config('be_ods', 'cifar100')
