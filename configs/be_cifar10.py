"""A BatchEnsemble on labels alone on CIFAR-10: the control without a teacher.

python -m ensdistill.main --config=configs/be_cifar10.py
python -m ensdistill.main --config=configs/be_cifar10.py:small

One GPU or TPU: the full recipe has not been run yet. Two CPU cores: `:small`, within minutes.
Expected, as LatentBE's authors report WRN-28-1: a BatchEnsemble of four ACC 93.18 %, NLL 0.295; an
ensemble of four 94.60 %, 0.170.
"""

from configs import common


def get_config(variant=''):
  return common.make('be', 'cifar10', variant)
