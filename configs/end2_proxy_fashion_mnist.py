"""Proxy-EnD² (Ryabinin et al., 2021) on Fashion-MNIST.

python -m ensdistill.main --config=configs/end2_proxy_fashion_mnist.py
"""

from ensdistill.config import recipes

get_config = recipes.config('end2_proxy', 'fashion_mnist')
