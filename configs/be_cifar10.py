"""A BatchEnsemble on labels alone on CIFAR-10: the control without a teacher.

python -m ensdistill.main --config=configs/be_cifar10.py
"""

from ensdistill.config import recipes

get_config = recipes.config('be', 'cifar10')
