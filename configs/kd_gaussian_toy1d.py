"""Distillation to the ensemble's mean Gaussian on noisy inputs, on a toy in one dimension.

python -m ensdistill.main --config=configs/kd_gaussian_toy1d.py
"""

from ensdistill.config import recipes

get_config = recipes.config('kd_gaussian', 'toy1d')
