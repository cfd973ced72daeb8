"""A single network on labels alone on scikit-learn's digits.

python -m ensdistill.main --config=configs/single_digits.py
"""

from ensdistill.config import recipes

get_config = recipes.config('single', 'digits')
