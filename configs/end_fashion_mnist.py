"""EnD (Malinin et al., 2020) on Fashion-MNIST.

python -m ensdistill.main --config=configs/end_fashion_mnist.py
"""

from ensdistill.config import recipes

get_config = recipes.config('end', 'fashion_mnist')
