"""Diversity Matters with ConfODS (Nam et al., 2021) on scikit-learn's digits.

python -m ensdistill.main --config=configs/be_confods_digits.py
"""

from ensdistill.config import recipes

get_config = recipes.config('be_confods', 'digits')
