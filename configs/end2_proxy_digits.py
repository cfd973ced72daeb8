"""Proxy-EnD² (Ryabinin et al., 2021) on scikit-learn's digits.

python -m ensdistill.main --config=configs/end2_proxy_digits.py
"""

from ensdistill.config import recipes

get_config = recipes.config('end2_proxy', 'digits')
