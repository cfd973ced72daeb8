"""A BatchEnsemble on labels alone on CIFAR-10: the control without a teacher.

python -m ensdistill.main --config=configs/be_cifar10.py
python -m ensdistill.main --config=configs/be_cifar10.py:small
"""

from configs import common


def get_config(variant=''):
  return common.make('be', 'cifar10', variant)
