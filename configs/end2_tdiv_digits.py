"""EnD² on TDiv inputs on scikit-learn's digits.

python -m ensdistill.main --config=configs/end2_tdiv_digits.py
"""

from ensdistill.config import recipes

get_config = recipes.config('end2_tdiv', 'digits')
