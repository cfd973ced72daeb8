"""A BatchEnsemble distilled member by member on noisy inputs, on a UCI set.

python -m ensdistill.main --config=configs/be_gaussian_uci.py
"""

from ensdistill.config import recipes

get_config = recipes.config('be_gaussian', 'uci')
