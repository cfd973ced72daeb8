"""LatentBE (Nam et al., 2022) on MNIST: a BatchEnsemble student averaged into one plain network.

python -m ensdistill.main --config=configs/latentbe_mnist.py
python -m ensdistill.main --config=configs/latentbe_mnist.py:small
"""

from configs import common


def get_config(variant=''):
  return common.make('latentbe', 'mnist', variant)
