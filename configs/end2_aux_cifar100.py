"""EnD²+AUX (Malinin et al., 2020) on CIFAR-100: the ensemble's predictions on other inputs too.

python -m ensdistill.main --config=configs/end2_aux_cifar100.py
python -m ensdistill.main --config=configs/end2_aux_cifar100.py:small
"""

from configs import common


def get_config(variant=''):
  return common.make('end2_aux', 'cifar100', variant)
