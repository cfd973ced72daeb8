"""Knowledge distillation on CIFAR-10: one network learns the ensemble's mean prediction.

python -m ensdistill.main --config=configs/kd_cifar10.py
python -m ensdistill.main --config=configs/kd_cifar10.py:small
"""

from configs import common


def get_config(variant=''):
  return common.make('kd', 'cifar10', variant)
