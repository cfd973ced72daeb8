"""BatchEnsemble distillation on CIFAR-100.

python -m ensdistill.main --config=configs/be_kd_cifar100.py
"""

from ensdistill.config import recipes

get_config = recipes.config('be_kd', 'cifar100')
