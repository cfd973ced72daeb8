"""Hydra (Tran et al., 2020) on CIFAR-10: one body, and a head for each member of the ensemble.

python -m ensdistill.main --config=configs/hydra_cifar10.py
python -m ensdistill.main --config=configs/hydra_cifar10.py:small
python -m ensdistill.main --config=configs/hydra_cifar10.py:paper

`:paper` is ResNet-20 with 50 heads, each the last block, pooling and a dense layer.
The paper's schedule is not known; this one is ours.

One GPU or TPU: the full recipe has not been run yet. Two CPU cores: `:small`, within minutes.
Expected of its ensemble, as LatentBE's authors report four WRN-28-1: ACC 94.60 %, NLL 0.170 (one
network 92.31 %, 0.280). Students of another network, WRN-16-1, in a later paper (on a deep latent
factor model): Hydra with linear heads 93.16 %, 0.266.
"""

from configs import common


def get_config(variant=''):
  return common.make('hydra', 'cifar10', variant)
