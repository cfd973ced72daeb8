"""EnD (Malinin et al., 2020) on CIFAR-100.

python -m ensdistill.main --config=configs/end_cifar100.py
"""

from ensdistill.config import recipes

get_config = recipes.config('end', 'cifar100')
