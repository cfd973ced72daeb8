"""BatchEnsemble distillation on CIFAR-100.

Member m learns from teacher m; the baseline of Diversity Matters.

python -m ensdistill.main --config=configs/be_kd_cifar100.py
python -m ensdistill.main --config=configs/be_kd_cifar100.py:small
python -m ensdistill.main --config=configs/be_kd_cifar100.py:paper
"""

from configs import common


def get_config(variant=''):
  return common.make('be_kd', 'cifar100', variant)
