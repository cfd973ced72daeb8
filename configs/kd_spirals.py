"""Knowledge distillation on three spirals: one network learns the ensemble's mean prediction.

python -m ensdistill.main --config=configs/kd_spirals.py
"""

from ensdistill.config import recipes

get_config = recipes.config('kd', 'spirals')
