"""EnD (Malinin et al., 2020) on CIFAR-10.

python -m ensdistill.main --config=configs/end_cifar10.py
"""

from ensdistill.config import recipes

get_config = recipes.config('end', 'cifar10')
