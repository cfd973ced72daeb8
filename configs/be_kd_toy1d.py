"""A BatchEnsemble distilled member by member on a toy in one dimension.

python -m ensdistill.main --config=configs/be_kd_toy1d.py
"""

from ensdistill.config import recipes

get_config = recipes.config('be_kd', 'toy1d')
