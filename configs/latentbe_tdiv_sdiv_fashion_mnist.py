"""LatentBE with TDiv-SDiv (Nam et al., 2022) on Fashion-MNIST.

Distilled where the teachers disagree and the student does not.

python -m ensdistill.main --config=configs/latentbe_tdiv_sdiv_fashion_mnist.py
python -m ensdistill.main --config=configs/latentbe_tdiv_sdiv_fashion_mnist.py:small

One GPU or TPU: the full recipe has not been run yet. Two CPU cores: `:small`, within minutes.
Expected numbers: none of a paper with this setting is at hand.
"""

from configs import common


def get_config(variant=''):
  return common.make('latentbe_tdiv_sdiv', 'fashion_mnist', variant)
