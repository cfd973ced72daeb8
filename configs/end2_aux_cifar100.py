"""EnD²+AUX (Malinin et al., 2020) on CIFAR-100: the ensemble's predictions on other inputs too.

python -m ensdistill.main --config=configs/end2_aux_cifar100.py
python -m ensdistill.main --config=configs/end2_aux_cifar100.py:small
python -m ensdistill.main --config=configs/end2_aux_cifar100.py:paper

The paper's network and augmentation: VGG-16, reflected crops, rotations, flips. `:paper` distils an
ensemble of 100, which trains on a GPU.

One GPU or TPU: the full recipe has not been run yet. Two CPU cores: `:small`, within minutes.
Expected of `:paper`, as Malinin et al. (2020) report it (± two standard deviations): error 28.0 ±
0.5 %, NLL 1.14 ± 0.01 (an ensemble of 100: 26.3 %, 0.88; one network: 30.4 ± 0.3 %, 1.16 ± 0.03).
"""

from configs import common


def get_config(variant=''):
  return common.make('end2_aux', 'cifar100', variant)
