"""Hydra (Tran et al., 2020) on a UCI set: one body, a head for each member.

python -m ensdistill.main --config=configs/hydra_uci.py
"""

from ensdistill.config import recipes

get_config = recipes.config('hydra', 'uci')
