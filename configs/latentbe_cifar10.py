"""LatentBE (Nam et al., 2022) on CIFAR-10: a BatchEnsemble student averaged into one plain network.

python -m ensdistill.main --config=configs/latentbe_cifar10.py
python -m ensdistill.main --config=configs/latentbe_cifar10.py:small

One GPU or TPU: the full recipe has not been run yet. Two CPU cores: `:small`, within minutes.
Expected of its ensemble, as LatentBE's authors report four WRN-28-1: ACC 94.60 %, NLL 0.170 (one
network 92.31 %, 0.280). Students of another network, WRN-16-1, in a later paper (on a deep latent
factor model): LatentBE 93.25 %, 0.248.
"""

from configs import common


def get_config(variant=''):
  return common.make('latentbe', 'cifar10', variant)
