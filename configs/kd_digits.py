"""Knowledge distillation on scikit-learn's digits.

python -m ensdistill.main --config=configs/kd_digits.py
"""

from ensdistill.config import recipes

get_config = recipes.config('kd', 'digits')
