"""Knowledge distillation on Gaussian-perturbed inputs on scikit-learn's digits.

python -m ensdistill.main --config=configs/kd_gaussian_digits.py
"""

from ensdistill.config import recipes

get_config = recipes.config('kd_gaussian', 'digits')
