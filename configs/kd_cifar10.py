"""Knowledge distillation on CIFAR-10: one network learns the ensemble's mean prediction.

python -m ensdistill.main --config=configs/kd_cifar10.py
"""

from ensdistill.config import recipes

get_config = recipes.config('kd', 'cifar10')
