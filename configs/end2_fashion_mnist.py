"""EnD² (Malinin et al., 2020) on Fashion-MNIST.

A Prior Network whose Dirichlet matches the members' predictions.

python -m ensdistill.main --config=configs/end2_fashion_mnist.py
python -m ensdistill.main --config=configs/end2_fashion_mnist.py:small

One GPU or TPU: the full recipe has not been run yet. Two CPU cores: `:small`, within minutes.
Expected numbers: none of a paper with this setting is at hand.
"""

from configs import common


def get_config(variant=''):
  return common.make('end2', 'fashion_mnist', variant)
