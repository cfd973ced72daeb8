"""LatentBE with TDiv-SDiv (Nam et al., 2022) on CIFAR-100.

Distilled where the teachers disagree and the student does not.

python -m ensdistill.main --config=configs/latentbe_tdiv_sdiv_cifar100.py
python -m ensdistill.main --config=configs/latentbe_tdiv_sdiv_cifar100.py:small
python -m ensdistill.main --config=configs/latentbe_tdiv_sdiv_cifar100.py:paper

`:paper` is WRN-28-4, an ensemble of four and 200 epochs.

One GPU or TPU: the full recipe has not been run yet. Two CPU cores: `:small`, within minutes.
Expected of the averaged network, as its authors report this setting: ACC 80.09 ± 0.12 %, NLL 0.798
± 0.007 (four seeds, standard deviation); the ensemble 81.08 %, 0.715.
"""

from configs import common


def get_config(variant=''):
  return common.make('latentbe_tdiv_sdiv', 'cifar100', variant)
