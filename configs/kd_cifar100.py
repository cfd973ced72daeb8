"""Knowledge distillation on CIFAR-100: one network learns the ensemble's mean prediction.

python -m ensdistill.main --config=configs/kd_cifar100.py
"""

from ensdistill.config import recipes

get_config = recipes.config('kd', 'cifar100')
