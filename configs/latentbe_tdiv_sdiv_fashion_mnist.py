"""LatentBE with TDiv-SDiv (Nam et al., 2022) on Fashion-MNIST.

Distilled where the teachers disagree and the student does not.

python -m ensdistill.main --config=configs/latentbe_tdiv_sdiv_fashion_mnist.py
python -m ensdistill.main --config=configs/latentbe_tdiv_sdiv_fashion_mnist.py:small
"""

from configs import common


def get_config(variant=''):
  return common.make('latentbe_tdiv_sdiv', 'fashion_mnist', variant)
