"""A multi-head network on labels alone on CIFAR-10: the control without a teacher.

python -m ensdistill.main --config=configs/multi_head_cifar10.py
python -m ensdistill.main --config=configs/multi_head_cifar10.py:small
"""

from configs import common


def get_config(variant=''):
  return common.make('multi_head', 'cifar10', variant)
