"""EnD+AUX (Malinin et al., 2020) on scikit-learn's digits.

python -m ensdistill.main --config=configs/end_aux_digits.py
"""

from ensdistill.config import recipes

get_config = recipes.config('end_aux', 'digits')
