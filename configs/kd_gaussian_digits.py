"""Knowledge distillation on Gaussian-perturbed inputs on scikit-learn's digits.

The control for perturbations by gradient.

python -m ensdistill.main --config=configs/kd_gaussian_digits.py
"""

from configs import common


def get_config(variant=''):
  return common.make('kd_gaussian', 'digits', variant)
