"""A Normal-Wishart over the ensemble on noisy inputs, on scikit-learn's diabetes.

python -m ensdistill.main --config=configs/nw_gaussian_diabetes.py
"""

from ensdistill.config import recipes

get_config = recipes.config('nw_gaussian', 'diabetes')
