"""EnD² (Malinin et al., 2020) on CIFAR-10.

A Prior Network whose Dirichlet matches the members' predictions.

python -m ensdistill.main --config=configs/end2_cifar10.py
python -m ensdistill.main --config=configs/end2_cifar10.py:small
python -m ensdistill.main --config=configs/end2_cifar10.py:paper

The paper's network and augmentation: VGG-16, reflected crops, rotations, flips. `:paper` distils an
ensemble of 100, which trains on a GPU.

One GPU or TPU: the full recipe has not been run yet. Two CPU cores: `:small`, within minutes.
Expected of `:paper`, as Malinin et al. (2020) report it (± two standard deviations): error 7.3 ±
0.2 % (an ensemble of 100: 6.2 %; one network: 8.0 ± 0.4 %).
"""

from configs import common


def get_config(variant=''):
  return common.make('end2', 'cifar10', variant)
