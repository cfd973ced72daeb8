"""A BatchEnsemble distilled member by member on scikit-learn's diabetes.

python -m ensdistill.main --config=configs/be_kd_diabetes.py
"""

from ensdistill.config import recipes

get_config = recipes.config('be_kd', 'diabetes')
