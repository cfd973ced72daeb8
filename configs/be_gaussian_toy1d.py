"""A BatchEnsemble distilled member by member on noisy inputs, on a toy in one dimension.

python -m ensdistill.main --config=configs/be_gaussian_toy1d.py
"""

from ensdistill.config import recipes

get_config = recipes.config('be_gaussian', 'toy1d')
