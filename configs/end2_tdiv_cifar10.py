"""EnD² on TDiv inputs on CIFAR-10.

A Dirichlet matched where the members disagree; no paper tried it.

python -m ensdistill.main --config=configs/end2_tdiv_cifar10.py
python -m ensdistill.main --config=configs/end2_tdiv_cifar10.py:small

Network, augmentation and ensemble are EnD²'s: VGG-16.
"""

from configs import common


def get_config(variant=''):
  return common.make('end2_tdiv', 'cifar10', variant)
