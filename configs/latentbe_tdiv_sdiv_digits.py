"""LatentBE with TDiv-SDiv (Nam et al., 2022) on scikit-learn's digits.

Distilled where the teachers disagree and the student does not.

python -m ensdistill.main --config=configs/latentbe_tdiv_sdiv_digits.py

Three students together on two busy CPU cores: 209 s. Three seeds, student-averaged:
ACC 97.53 ± 0.23 %, NLL 0.0800 ± 0.0032; one member 0.0796 ± 0.0034.
"""

from configs import common


def get_config(variant=''):
  return common.make('latentbe_tdiv_sdiv', 'digits', variant)
