"""EnD+AUX (Malinin et al., 2020) on CIFAR-100.

python -m ensdistill.main --config=configs/end_aux_cifar100.py
"""

from ensdistill.config import recipes

get_config = recipes.config('end_aux', 'cifar100')
