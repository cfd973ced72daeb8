"""Diversity Matters with ConfODS (Nam et al., 2021) on MNIST: ODS, scaled by confidence.

python -m ensdistill.main --config=configs/be_confods_mnist.py
"""

from ensdistill.config import recipes

get_config = recipes.config('be_confods', 'mnist')
