"""Knowledge distillation on Fashion-MNIST: one network learns the ensemble's mean prediction.

python -m ensdistill.main --config=configs/kd_fashion_mnist.py
python -m ensdistill.main --config=configs/kd_fashion_mnist.py:small

One GPU or TPU: the full recipe has not been run yet. Two CPU cores: `:small`, within minutes.
Expected numbers: none of a paper with this setting is at hand.
"""

from configs import common


def get_config(variant=''):
  return common.make('kd', 'fashion_mnist', variant)
