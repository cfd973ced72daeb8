"""BatchEnsemble distillation on scikit-learn's digits.

python -m ensdistill.main --config=configs/be_kd_digits.py
"""

from ensdistill.config import recipes

get_config = recipes.config('be_kd', 'digits')
