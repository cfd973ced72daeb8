"""A single network on labels alone on CIFAR-10: the control that distillation must beat.

python -m ensdistill.main --config=configs/single_cifar10.py
"""

from ensdistill.config import recipes

get_config = recipes.config('single', 'cifar10')
