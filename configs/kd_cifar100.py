"""Knowledge distillation on CIFAR-100: one network learns the ensemble's mean prediction.

python -m ensdistill.main --config=configs/kd_cifar100.py
python -m ensdistill.main --config=configs/kd_cifar100.py:small
"""

from configs import common


def get_config(variant=''):
  return common.make('kd', 'cifar100', variant)
