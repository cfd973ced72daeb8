"""A BatchEnsemble on labels alone on CIFAR-100: the control without a teacher.

python -m ensdistill.main --config=configs/be_cifar100.py
python -m ensdistill.main --config=configs/be_cifar100.py:small
"""

from configs import common


def get_config(variant=''):
  return common.make('be', 'cifar100', variant)
