"""LatentBE (Nam et al., 2022) on CIFAR-10: a BatchEnsemble student averaged into one plain network.

python -m ensdistill.main --config=configs/latentbe_cifar10.py
"""

from ensdistill.config import recipes

get_config = recipes.config('latentbe', 'cifar10')
