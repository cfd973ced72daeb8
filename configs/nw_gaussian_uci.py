"""A Normal-Wishart over the ensemble on noisy inputs, on a UCI set.

python -m ensdistill.main --config=configs/nw_gaussian_uci.py
"""

from ensdistill.config import recipes

get_config = recipes.config('nw_gaussian', 'uci')
