"""Hydra (Tran et al., 2020) on noisy inputs, on scikit-learn's diabetes.

python -m ensdistill.main --config=configs/hydra_gaussian_diabetes.py

Two busy CPU cores: about 160 s (the teacher 21 s of it). Measured: RMSE 55.04, NLL 5.4025; ensemble
of 20 55.03, 5.4021; one member 55.43, 5.4153. OOD AUROC (knowledge): 96.0; ensemble 98.7.
"""

from configs import common


def get_config(variant=''):
  return common.make('hydra_gaussian', 'diabetes', variant)
