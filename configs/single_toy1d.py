"""A single Gaussian regressor on labels alone on a toy in one dimension: the control.

python -m ensdistill.main --config=configs/single_toy1d.py
"""

from ensdistill.config import recipes

get_config = recipes.config('single', 'toy1d')
