"""A Prior Network (Malinin and Gales, 2018) on scikit-learn's digits.

python -m ensdistill.main --config=configs/pn_digits.py
"""

from ensdistill.config import recipes

get_config = recipes.config('pn', 'digits')
