"""BatchEnsemble distillation on CIFAR-10.

Member m learns from teacher m; the baseline of Diversity Matters.

python -m ensdistill.main --config=configs/be_kd_cifar10.py
python -m ensdistill.main --config=configs/be_kd_cifar10.py:small
"""

from configs import common


def get_config(variant=''):
  return common.make('be_kd', 'cifar10', variant)
