"""Hydra (Tran et al., 2020) on noisy inputs, on a toy in one dimension.

python -m ensdistill.main --config=configs/hydra_gaussian_toy1d.py
"""

from ensdistill.config import recipes

get_config = recipes.config('hydra_gaussian', 'toy1d')
