"""Knowledge distillation on CIFAR-100: one network learns the ensemble's mean prediction.

python -m ensdistill.main --config=configs/kd_cifar100.py
python -m ensdistill.main --config=configs/kd_cifar100.py:small

One GPU or TPU: the full recipe has not been run yet. Two CPU cores: `:small`, within minutes.
Expected, as LatentBE's authors report this setting: ACC 79.17 ± 0.25 %, NLL 1.072 ± 0.010 (four
seeds, standard deviation); the ensemble 81.08 %, 0.715.
"""

from configs import common


def get_config(variant=''):
  return common.make('kd', 'cifar100', variant)
