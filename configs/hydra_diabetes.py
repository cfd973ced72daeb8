"""Hydra (Tran et al., 2020) on scikit-learn's diabetes: one body, a head for each member.

python -m ensdistill.main --config=configs/hydra_diabetes.py

Two busy CPU cores: about 90 s (the teacher 21 s of it). Measured: RMSE 54.58, NLL 5.3915; ensemble
of 20 55.03, 5.4021; one member 55.43, 5.4153. OOD AUROC (knowledge): 95.5; ensemble 98.7.
"""

from configs import common


def get_config(variant=''):
  return common.make('hydra', 'diabetes', variant)
