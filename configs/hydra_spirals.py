"""Hydra (Tran et al., 2020) on three spirals: one body, and a head for each member of the ensemble.

python -m ensdistill.main --config=configs/hydra_spirals.py
"""

from ensdistill.config import recipes

get_config = recipes.config('hydra', 'spirals')
