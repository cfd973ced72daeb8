"""BatchEnsemble distillation on CIFAR-10.

python -m ensdistill.main --config=configs/be_kd_cifar10.py
"""

from ensdistill.config import recipes

get_config = recipes.config('be_kd', 'cifar10')
