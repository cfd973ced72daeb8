"""A BatchEnsemble distilled member by member on a UCI set.

python -m ensdistill.main --config=configs/be_kd_uci.py
"""

from ensdistill.config import recipes

get_config = recipes.config('be_kd', 'uci')
