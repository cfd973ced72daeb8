"""Hydra (Tran et al., 2020) on a toy in one dimension: one body, a head for each member.

python -m ensdistill.main --config=configs/hydra_toy1d.py

Two busy CPU cores: about 80 s (the teacher 19 s of it). Measured: RMSE 0.1917, NLL -0.2255;
ensemble of 20 0.1900, -0.2335; one member 0.1917, -0.2261. OOD AUROC (knowledge): 58.1; ensemble
100.0.
"""

from configs import common


def get_config(variant=''):
  return common.make('hydra', 'toy1d', variant)
