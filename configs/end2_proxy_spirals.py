"""Proxy-EnD² (Ryabinin et al., 2021) on three spirals.

python -m ensdistill.main --config=configs/end2_proxy_spirals.py
"""

from ensdistill.config import recipes

get_config = recipes.config('end2_proxy', 'spirals')
