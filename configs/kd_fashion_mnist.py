"""Knowledge distillation on Fashion-MNIST: one network learns the ensemble's mean prediction.

python -m ensdistill.main --config=configs/kd_fashion_mnist.py
"""

from ensdistill.config import recipes

get_config = recipes.config('kd', 'fashion_mnist')
