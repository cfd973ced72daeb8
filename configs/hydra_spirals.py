"""Hydra (Tran et al., 2020) on three spirals: one body, and a head for each member of the ensemble.

python -m ensdistill.main --config=configs/hydra_spirals.py
python -m ensdistill.main --config=configs/hydra_spirals.py:small
"""

from configs import common


def get_config(variant=''):
  return common.make('hydra', 'spirals', variant)
