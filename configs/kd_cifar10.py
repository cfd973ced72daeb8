"""Knowledge distillation on CIFAR-10: one network learns the ensemble's mean prediction.

python -m ensdistill.main --config=configs/kd_cifar10.py
python -m ensdistill.main --config=configs/kd_cifar10.py:small

One GPU or TPU: the full recipe has not been run yet. Two CPU cores: `:small`, within minutes.
Expected of its ensemble, as LatentBE's authors report four WRN-28-1: ACC 94.60 %, NLL 0.170 (one
network 92.31 %, 0.280).
"""

from configs import common


def get_config(variant=''):
  return common.make('kd', 'cifar10', variant)
