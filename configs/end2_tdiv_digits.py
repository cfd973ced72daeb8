"""EnD² on TDiv inputs on scikit-learn's digits.

A Dirichlet matched where the members disagree; no paper tried it.

python -m ensdistill.main --config=configs/end2_tdiv_digits.py
"""

from configs import common


def get_config(variant=''):
  return common.make('end2_tdiv', 'digits', variant)
