"""Distillation to the ensemble's mean Gaussian on noisy inputs, on a toy in one dimension.

python -m ensdistill.main --config=configs/kd_gaussian_toy1d.py

Two busy CPU cores: about 44 s (the teacher 19 s of it). Measured: RMSE 0.1920, NLL -0.2249;
ensemble of 20 0.1900, -0.2335; one member 0.1917, -0.2261. OOD AUROC (knowledge): 50.0 (one network
has none); ensemble 100.0.
"""

from configs import common


def get_config(variant=''):
  return common.make('kd_gaussian', 'toy1d', variant)
