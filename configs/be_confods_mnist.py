"""Diversity Matters with ConfODS (Nam et al., 2021) on MNIST: ODS, scaled by confidence.

python -m ensdistill.main --config=configs/be_confods_mnist.py
python -m ensdistill.main --config=configs/be_confods_mnist.py:small

One GPU or TPU: the full recipe has not been run yet. Two CPU cores: `:small`, within minutes.
Expected numbers: none of a paper with this setting is at hand.
"""

from configs import common


def get_config(variant=''):
  return common.make('be_confods', 'mnist', variant)
