"""EnD (Malinin et al., 2020) on MNIST.

python -m ensdistill.main --config=configs/end_mnist.py
"""

from ensdistill.config import recipes

get_config = recipes.config('end', 'mnist')
