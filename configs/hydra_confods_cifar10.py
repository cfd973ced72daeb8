"""Hydra on ConfODS inputs on CIFAR-10: heads matched where the members disagree; no paper tried it.

python -m ensdistill.main --config=configs/hydra_confods_cifar10.py
python -m ensdistill.main --config=configs/hydra_confods_cifar10.py:small

One GPU or TPU: the full recipe has not been run yet. Two CPU cores: `:small`, within minutes.
Expected of its ensemble, as LatentBE's authors report four WRN-28-1: ACC 94.60 %, NLL 0.170 (one
network 92.31 %, 0.280).
"""

from configs import common


def get_config(variant=''):
  return common.make('hydra_confods', 'cifar10', variant)
