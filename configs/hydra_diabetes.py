"""Hydra (Tran et al., 2020) on scikit-learn's diabetes: one body, a head for each member.

python -m ensdistill.main --config=configs/hydra_diabetes.py
"""

from ensdistill.config import recipes

get_config = recipes.config('hydra', 'diabetes')
