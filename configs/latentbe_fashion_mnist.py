"""LatentBE (Nam et al., 2022) on Fashion-MNIST.

A BatchEnsemble student averaged into one plain network.

python -m ensdistill.main --config=configs/latentbe_fashion_mnist.py
python -m ensdistill.main --config=configs/latentbe_fashion_mnist.py:small

One GPU or TPU: the full recipe has not been run yet. Two CPU cores: `:small`, within minutes.
Expected numbers: none of a paper with this setting is at hand.
"""

from configs import common


def get_config(variant=''):
  return common.make('latentbe', 'fashion_mnist', variant)
