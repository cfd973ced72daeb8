"""Hydra (Tran et al., 2020) on noisy inputs, on scikit-learn's diabetes.

python -m ensdistill.main --config=configs/hydra_gaussian_diabetes.py
"""

from ensdistill.config import recipes

get_config = recipes.config('hydra_gaussian', 'diabetes')
