"""LatentBE (Nam et al., 2022) on CIFAR-100.

A BatchEnsemble student averaged into one plain network.

python -m ensdistill.main --config=configs/latentbe_cifar100.py
python -m ensdistill.main --config=configs/latentbe_cifar100.py:small
python -m ensdistill.main --config=configs/latentbe_cifar100.py:paper

`:paper` is WRN-28-4, an ensemble of four and 200 epochs.

One GPU or TPU: the full recipe has not been run yet. Two CPU cores: `:small`, within minutes.
Expected of the averaged network, as its authors report this setting: ACC 79.32 ± 0.20 %, NLL 1.012
± 0.010 (four seeds, standard deviation); the ensemble 81.08 %, 0.715.
"""

from configs import common


def get_config(variant=''):
  return common.make('latentbe', 'cifar100', variant)
