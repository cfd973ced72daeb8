"""A single Gaussian regressor on labels alone on a UCI set: the control.

python -m ensdistill.main --config=configs/single_uci.py
"""

from ensdistill.config import recipes

get_config = recipes.config('single', 'uci')
