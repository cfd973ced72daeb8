"""Proxy-EnD² (Ryabinin et al., 2021) on scikit-learn's digits.

A Dirichlet close to a proxy fitted to the members'.

python -m ensdistill.main --config=configs/end2_proxy_digits.py

Three students together on two busy CPU cores: 56 s. Measured (three seeds, the student):
ACC 97.73 ± 0.23 %, NLL 0.0807 ± 0.0059; one member 0.0796 ± 0.0034.
"""

from configs import common


def get_config(variant=''):
  return common.make('end2_proxy', 'digits', variant)
