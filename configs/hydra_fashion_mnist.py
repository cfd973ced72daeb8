"""Hydra (Tran et al., 2020) on Fashion-MNIST: one body, and a head for each member of the ensemble.

python -m ensdistill.main --config=configs/hydra_fashion_mnist.py
python -m ensdistill.main --config=configs/hydra_fashion_mnist.py:small

One GPU or TPU: the full recipe has not been run yet. Two CPU cores: `:small`, within minutes.
Expected numbers: none of a paper with this setting is at hand.
"""

from configs import common


def get_config(variant=''):
  return common.make('hydra', 'fashion_mnist', variant)
