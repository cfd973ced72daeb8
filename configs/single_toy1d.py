"""A single Gaussian regressor on labels alone on a toy in one dimension: the control.

python -m ensdistill.main --config=configs/single_toy1d.py

Two busy CPU cores: about 38 s (the teacher 19 s of it). Measured: RMSE 0.2008, NLL -0.1840;
ensemble of 20 0.1900, -0.2335; one member 0.1917, -0.2261. OOD AUROC (knowledge): 50.0 (one network
has none); ensemble 100.0.
"""

from configs import common


def get_config(variant=''):
  return common.make('single', 'toy1d', variant)
