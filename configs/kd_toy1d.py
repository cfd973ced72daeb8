"""Distillation to the ensemble's mean Gaussian on a toy in one dimension.

python -m ensdistill.main --config=configs/kd_toy1d.py
"""

from ensdistill.config import recipes

get_config = recipes.config('kd', 'toy1d')
