"""Diversity Matters with ConfODS (Nam et al., 2021) on Fashion-MNIST: ODS, scaled by confidence.

python -m ensdistill.main --config=configs/be_confods_fashion_mnist.py
"""

from ensdistill.config import recipes

get_config = recipes.config('be_confods', 'fashion_mnist')
