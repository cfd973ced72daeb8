"""Hydra (Tran et al., 2020) on Fashion-MNIST: one body, and a head for each member of the ensemble.

python -m ensdistill.main --config=configs/hydra_fashion_mnist.py
"""

from ensdistill.config import recipes

get_config = recipes.config('hydra', 'fashion_mnist')
