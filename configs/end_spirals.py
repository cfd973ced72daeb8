"""EnD (Malinin et al., 2020) on three spirals.

python -m ensdistill.main --config=configs/end_spirals.py
"""

from ensdistill.config import recipes

get_config = recipes.config('end', 'spirals')
