"""Diversity Matters with ODS (Nam et al., 2021) on CIFAR-100.

Distilled where a random output direction moves a member.

python -m ensdistill.main --config=configs/be_ods_cifar100.py
python -m ensdistill.main --config=configs/be_ods_cifar100.py:small
python -m ensdistill.main --config=configs/be_ods_cifar100.py:paper

One GPU or TPU: the full recipe has not been run yet. Two CPU cores: `:small`, within minutes.
Expected of `:paper`, one run by the paper's authors: ACC 81.92 %, NLL 0.685 (four teachers: 82.54
%, 0.670; one: 80.22 %, 0.789).
"""

from configs import common


def get_config(variant=''):
  return common.make('be_ods', 'cifar100', variant)
