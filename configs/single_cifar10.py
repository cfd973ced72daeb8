"""A single network on labels alone on CIFAR-10: the control that distillation must beat.

python -m ensdistill.main --config=configs/single_cifar10.py
python -m ensdistill.main --config=configs/single_cifar10.py:small
"""

from configs import common


def get_config(variant=''):
  return common.make('single', 'cifar10', variant)
