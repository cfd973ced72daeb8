"""LatentBE (Nam et al., 2022) on CIFAR-100.

python -m ensdistill.main --config=configs/latentbe_cifar100.py
"""

from ensdistill.config import recipes

get_config = recipes.config('latentbe', 'cifar100')
