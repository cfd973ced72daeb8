"""Knowledge distillation on ImageNet, which streams from its files.

python -m ensdistill.main --config=configs/kd_imagenet.py
"""

from ensdistill.config import recipes

get_config = recipes.config('kd', 'imagenet')
