"""Knowledge distillation on three spirals: one network learns the ensemble's mean prediction.

python -m ensdistill.main --config=configs/kd_spirals.py
python -m ensdistill.main --config=configs/kd_spirals.py:small
"""

from configs import common


def get_config(variant=''):
  return common.make('kd', 'spirals', variant)
