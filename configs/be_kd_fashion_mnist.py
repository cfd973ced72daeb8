"""BatchEnsemble distillation on Fashion-MNIST.

python -m ensdistill.main --config=configs/be_kd_fashion_mnist.py
"""

from ensdistill.config import recipes

get_config = recipes.config('be_kd', 'fashion_mnist')
