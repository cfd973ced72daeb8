"""Distillation to the ensemble's mean Gaussian on a UCI set.

python -m ensdistill.main --config=configs/kd_uci.py
"""

from ensdistill.config import recipes

get_config = recipes.config('kd', 'uci')
