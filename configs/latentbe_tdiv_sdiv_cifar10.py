"""LatentBE with TDiv-SDiv (Nam et al., 2022) on CIFAR-10.

python -m ensdistill.main --config=configs/latentbe_tdiv_sdiv_cifar10.py
"""

from ensdistill.config import recipes

get_config = recipes.config('latentbe_tdiv_sdiv', 'cifar10')
