"""Diversity Matters with ConfODS (Nam et al., 2021) on CIFAR-100: ODS, scaled by confidence.

python -m ensdistill.main --config=configs/be_confods_cifar100.py
python -m ensdistill.main --config=configs/be_confods_cifar100.py:small
python -m ensdistill.main --config=configs/be_confods_cifar100.py:paper

One GPU or TPU: the full recipe has not been run yet. Two CPU cores: `:small`, within minutes.
Expected of `:paper`, one run by the paper's authors: ACC 82.25 %, NLL 0.670 (four teachers: 82.54
%, 0.670; one: 80.22 %, 0.789).
"""

from configs import common


def get_config(variant=''):
  return common.make('be_confods', 'cifar100', variant)
