"""A single network on labels alone on CIFAR-10: the control that distillation must beat.

python -m ensdistill.main --config=configs/single_cifar10.py
python -m ensdistill.main --config=configs/single_cifar10.py:small

One GPU or TPU: the full recipe has not been run yet. Two CPU cores: `:small`, within minutes.
Expected, as LatentBE's authors report WRN-28-1: ACC 92.87 %, NLL 0.267.
"""

from configs import common


def get_config(variant=''):
  return common.make('single', 'cifar10', variant)
