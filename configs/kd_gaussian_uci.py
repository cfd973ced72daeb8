"""Distillation to the ensemble's mean Gaussian on noisy inputs, on a UCI set.

python -m ensdistill.main --config=configs/kd_gaussian_uci.py
"""

from ensdistill.config import recipes

get_config = recipes.config('kd_gaussian', 'uci')
