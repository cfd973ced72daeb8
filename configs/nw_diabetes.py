"""A Normal-Wishart over the ensemble (Malinin et al., 2020) on scikit-learn's diabetes.

python -m ensdistill.main --config=configs/nw_diabetes.py
"""

from ensdistill.config import recipes

get_config = recipes.config('nw', 'diabetes')
