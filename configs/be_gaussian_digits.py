"""BatchEnsemble distillation on Gaussian-perturbed inputs on scikit-learn's digits.

A control of Diversity Matters.

python -m ensdistill.main --config=configs/be_gaussian_digits.py
"""

from configs import common


def get_config(variant=''):
  return common.make('be_gaussian', 'digits', variant)
