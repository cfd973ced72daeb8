"""EnD² (Malinin et al., 2020) on CIFAR-10.

A Prior Network whose Dirichlet matches the members' predictions.

python -m ensdistill.main --config=configs/end2_cifar10.py
python -m ensdistill.main --config=configs/end2_cifar10.py:small
"""

from configs import common


def get_config(variant=''):
  return common.make('end2', 'cifar10', variant)
