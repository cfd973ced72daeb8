"""A multi-head network on labels alone on CIFAR-100: the control without a teacher.

python -m ensdistill.main --config=configs/multi_head_cifar100.py
"""

from ensdistill.config import recipes

get_config = recipes.config('multi_head', 'cifar100')
