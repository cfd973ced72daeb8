"""A BatchEnsemble on labels alone on CIFAR-100: the control without a teacher.

python -m ensdistill.main --config=configs/be_cifar100.py
python -m ensdistill.main --config=configs/be_cifar100.py:small

One GPU or TPU: the full recipe has not been run yet. Two CPU cores: `:small`, within minutes.
Expected, as LatentBE's authors report WRN-28-4: ensemble ACC 81.08 %, NLL 0.715; distilled to its
mean 79.17 %, 1.072.
"""

from configs import common


def get_config(variant=''):
  return common.make('be', 'cifar100', variant)
