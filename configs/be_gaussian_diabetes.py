"""A BatchEnsemble distilled member by member on noisy inputs, on scikit-learn's diabetes.

python -m ensdistill.main --config=configs/be_gaussian_diabetes.py
"""

from ensdistill.config import recipes

get_config = recipes.config('be_gaussian', 'diabetes')
