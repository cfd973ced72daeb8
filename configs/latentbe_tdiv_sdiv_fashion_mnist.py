"""LatentBE with TDiv-SDiv (Nam et al., 2022) on Fashion-MNIST.

python -m ensdistill.main --config=configs/latentbe_tdiv_sdiv_fashion_mnist.py
"""

from ensdistill.config import recipes

get_config = recipes.config('latentbe_tdiv_sdiv', 'fashion_mnist')
