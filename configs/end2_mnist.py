"""EnD² (Malinin et al., 2020) on MNIST.

A Prior Network whose Dirichlet matches the members' predictions.

python -m ensdistill.main --config=configs/end2_mnist.py
python -m ensdistill.main --config=configs/end2_mnist.py:small
"""

from configs import common


def get_config(variant=''):
  return common.make('end2', 'mnist', variant)
