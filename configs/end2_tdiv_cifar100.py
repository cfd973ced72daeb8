"""EnD² on TDiv inputs on CIFAR-100.

python -m ensdistill.main --config=configs/end2_tdiv_cifar100.py
"""

from ensdistill.config import recipes

get_config = recipes.config('end2_tdiv', 'cifar100')
