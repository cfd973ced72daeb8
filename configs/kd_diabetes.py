"""Distillation to the ensemble's mean Gaussian on scikit-learn's diabetes.

python -m ensdistill.main --config=configs/kd_diabetes.py
"""

from ensdistill.config import recipes

get_config = recipes.config('kd', 'diabetes')
