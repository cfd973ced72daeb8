"""EnD² (Malinin et al., 2020) on scikit-learn's digits.

A Prior Network whose Dirichlet matches the members' predictions.

python -m ensdistill.main --config=configs/end2_digits.py
"""

from configs import common


def get_config(variant=''):
  return common.make('end2', 'digits', variant)
