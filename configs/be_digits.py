"""A BatchEnsemble on labels alone on scikit-learn's digits: the control without a teacher.

python -m ensdistill.main --config=configs/be_digits.py
"""

from ensdistill.config import recipes

get_config = recipes.config('be', 'digits')
