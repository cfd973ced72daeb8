"""A Prior Network (Malinin and Gales, 2018) on CIFAR-100: labels and auxiliary inputs, no ensemble.

python -m ensdistill.main --config=configs/pn_cifar100.py
"""

from ensdistill.config import recipes

get_config = recipes.config('pn', 'cifar100')
