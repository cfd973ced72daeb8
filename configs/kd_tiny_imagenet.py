"""Knowledge distillation on Tiny ImageNet: one network learns the ensemble's mean prediction.

python -m ensdistill.main --config=configs/kd_tiny_imagenet.py
"""

from ensdistill.config import recipes

get_config = recipes.config('kd', 'tiny_imagenet')
