"""Hydra on ConfODS inputs on scikit-learn's digits.

python -m ensdistill.main --config=configs/hydra_confods_digits.py
"""

from ensdistill.config import recipes

get_config = recipes.config('hydra_confods', 'digits')
