"""Hydra (Tran et al., 2020) on a toy in one dimension: one body, a head for each member.

python -m ensdistill.main --config=configs/hydra_toy1d.py
"""

from ensdistill.config import recipes

get_config = recipes.config('hydra', 'toy1d')
