"""EnD² (Malinin et al., 2020) on MNIST.

python -m ensdistill.main --config=configs/end2_mnist.py
"""

from ensdistill.config import recipes

get_config = recipes.config('end2', 'mnist')
