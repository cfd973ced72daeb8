"""LatentBE (Nam et al., 2022) on scikit-learn's digits.

python -m ensdistill.main --config=configs/latentbe_digits.py
"""

from ensdistill.config import recipes

get_config = recipes.config('latentbe', 'digits')
