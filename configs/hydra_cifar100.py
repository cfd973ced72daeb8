"""Hydra (Tran et al., 2020) on CIFAR-100: one body, and a head for each member of the ensemble.

python -m ensdistill.main --config=configs/hydra_cifar100.py
python -m ensdistill.main --config=configs/hydra_cifar100.py:small

One GPU or TPU: the full recipe has not been run yet. Two CPU cores: `:small`, within minutes.
Expected, as LatentBE's authors report WRN-28-4: ensemble ACC 81.08 %, NLL 0.715; distilled to its
mean 79.17 %, 1.072.
"""

from configs import common


def get_config(variant=''):
  return common.make('hydra', 'cifar100', variant)
