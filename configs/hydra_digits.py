"""Hydra (Tran et al., 2020) on scikit-learn's digits.

python -m ensdistill.main --config=configs/hydra_digits.py
"""

from ensdistill.config import recipes

get_config = recipes.config('hydra', 'digits')
