"""Proxy-EnD² (Ryabinin et al., 2021) on CIFAR-100.

python -m ensdistill.main --config=configs/end2_proxy_cifar100.py
"""

from ensdistill.config import recipes

get_config = recipes.config('end2_proxy', 'cifar100')
