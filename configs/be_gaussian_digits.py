"""BatchEnsemble distillation on Gaussian-perturbed inputs on scikit-learn's digits.

python -m ensdistill.main --config=configs/be_gaussian_digits.py
"""

from ensdistill.config import recipes

get_config = recipes.config('be_gaussian', 'digits')
