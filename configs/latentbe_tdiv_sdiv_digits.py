"""LatentBE with TDiv-SDiv (Nam et al., 2022) on scikit-learn's digits.

Distilled where the teachers disagree and the student does not.

python -m ensdistill.main --config=configs/latentbe_tdiv_sdiv_digits.py

Three students together on two busy CPU cores: 299 s. Measured (three seeds, the averaged network):
ACC 97.73 ± 0.09 %, NLL 0.0839 ± 0.0050; one member 0.0796 ± 0.0034.
"""

from configs import common


def get_config(variant=''):
  return common.make('latentbe_tdiv_sdiv', 'digits', variant)
