"""LatentBE with TDiv-SDiv (Nam et al., 2022) on scikit-learn's digits.

Distilled where the teachers disagree and the student does not.

python -m ensdistill.main --config=configs/latentbe_tdiv_sdiv_digits.py
"""

from configs import common


def get_config(variant=''):
  return common.make('latentbe_tdiv_sdiv', 'digits', variant)
