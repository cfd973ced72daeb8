"""Knowledge distillation on MNIST: one network learns the ensemble's mean prediction.

python -m ensdistill.main --config=configs/kd_mnist.py
"""

from ensdistill.config import recipes

get_config = recipes.config('kd', 'mnist')
