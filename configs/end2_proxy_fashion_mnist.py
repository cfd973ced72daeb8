"""Proxy-EnD² (Ryabinin et al., 2021) on Fashion-MNIST.

A Dirichlet close to a proxy fitted to the members'.

python -m ensdistill.main --config=configs/end2_proxy_fashion_mnist.py
python -m ensdistill.main --config=configs/end2_proxy_fashion_mnist.py:small

One GPU or TPU: the full recipe has not been run yet. Two CPU cores: `:small`, within minutes.
Expected numbers: none of a paper with this setting is at hand.
"""

from configs import common


def get_config(variant=''):
  return common.make('end2_proxy', 'fashion_mnist', variant)
