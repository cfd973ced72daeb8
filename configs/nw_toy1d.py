"""A Normal-Wishart over the ensemble (Malinin et al., 2020) on a toy in one dimension.

python -m ensdistill.main --config=configs/nw_toy1d.py
"""

from ensdistill.config import recipes

get_config = recipes.config('nw', 'toy1d')
