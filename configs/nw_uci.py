"""A Normal-Wishart over the ensemble (Malinin et al., 2020) on a UCI set.

python -m ensdistill.main --config=configs/nw_uci.py
"""

from ensdistill.config import recipes

get_config = recipes.config('nw', 'uci')
