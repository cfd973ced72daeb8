"""Hydra (Tran et al., 2020) on Fashion-MNIST: one body, and a head for each member of the ensemble.

python -m ensdistill.main --config=configs/hydra_fashion_mnist.py
python -m ensdistill.main --config=configs/hydra_fashion_mnist.py:small
"""

from configs import common


def get_config(variant=''):
  return common.make('hydra', 'fashion_mnist', variant)
