"""EnD²+AUX (Malinin et al., 2020) on scikit-learn's digits.

The ensemble's predictions on other inputs too.

python -m ensdistill.main --config=configs/end2_aux_digits.py
"""

from configs import common


def get_config(variant=''):
  return common.make('end2_aux', 'digits', variant)
