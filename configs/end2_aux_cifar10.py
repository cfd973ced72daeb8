"""EnD²+AUX (Malinin et al., 2020) on CIFAR-10: the ensemble's predictions on other inputs too.

python -m ensdistill.main --config=configs/end2_aux_cifar10.py
"""

from ensdistill.config import recipes

get_config = recipes.config('end2_aux', 'cifar10')
