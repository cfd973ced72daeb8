"""A single Gaussian regressor on labels alone on scikit-learn's diabetes: the control.

python -m ensdistill.main --config=configs/single_diabetes.py

Two busy CPU cores: about 71 s (the teacher 21 s of it). Measured: RMSE 57.08, NLL 5.4720; ensemble
of 20 55.03, 5.4021; one member 55.43, 5.4153. OOD AUROC (knowledge): 50.0 (one network has none);
ensemble 98.7.
"""

from configs import common


def get_config(variant=''):
  return common.make('single', 'diabetes', variant)
