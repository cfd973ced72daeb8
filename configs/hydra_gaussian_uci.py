"""Hydra (Tran et al., 2020) on noisy inputs, on a UCI set.

python -m ensdistill.main --config=configs/hydra_gaussian_uci.py
"""

from ensdistill.config import recipes

get_config = recipes.config('hydra_gaussian', 'uci')
