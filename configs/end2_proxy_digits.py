"""Proxy-EnD² (Ryabinin et al., 2021) on scikit-learn's digits.

A Dirichlet close to a proxy fitted to the members'.

python -m ensdistill.main --config=configs/end2_proxy_digits.py
"""

from configs import common


def get_config(variant=''):
  return common.make('end2_proxy', 'digits', variant)
