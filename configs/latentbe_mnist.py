"""LatentBE (Nam et al., 2022) on MNIST: a BatchEnsemble student averaged into one plain network.

python -m ensdistill.main --config=configs/latentbe_mnist.py
"""

from ensdistill.config import recipes

get_config = recipes.config('latentbe', 'mnist')
