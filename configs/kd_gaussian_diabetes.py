"""Distillation to the ensemble's mean Gaussian on noisy inputs, on scikit-learn's diabetes.

python -m ensdistill.main --config=configs/kd_gaussian_diabetes.py
"""

from ensdistill.config import recipes

get_config = recipes.config('kd_gaussian', 'diabetes')
