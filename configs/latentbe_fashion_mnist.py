"""LatentBE (Nam et al., 2022) on Fashion-MNIST.

python -m ensdistill.main --config=configs/latentbe_fashion_mnist.py
"""

from ensdistill.config import recipes

get_config = recipes.config('latentbe', 'fashion_mnist')
