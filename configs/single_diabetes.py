"""A single Gaussian regressor on labels alone on scikit-learn's diabetes: the control.

python -m ensdistill.main --config=configs/single_diabetes.py
"""

from ensdistill.config import recipes

get_config = recipes.config('single', 'diabetes')
