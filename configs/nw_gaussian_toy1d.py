"""A Normal-Wishart over the ensemble on noisy inputs, on a toy in one dimension.

python -m ensdistill.main --config=configs/nw_gaussian_toy1d.py
"""

from ensdistill.config import recipes

get_config = recipes.config('nw_gaussian', 'toy1d')
