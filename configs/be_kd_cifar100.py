"""BatchEnsemble distillation on CIFAR-100.

Member m learns from teacher m; the baseline of Diversity Matters.

python -m ensdistill.main --config=configs/be_kd_cifar100.py
python -m ensdistill.main --config=configs/be_kd_cifar100.py:small
python -m ensdistill.main --config=configs/be_kd_cifar100.py:paper

One GPU or TPU: the full recipe has not been run yet. Two CPU cores: `:small`, within minutes.
Expected of `:paper`, one run by the paper's authors: ACC 80.40 %, NLL 0.804 (four teachers: 82.54
%, 0.670; one: 80.22 %, 0.789).
"""

from configs import common


def get_config(variant=''):
  return common.make('be_kd', 'cifar100', variant)
