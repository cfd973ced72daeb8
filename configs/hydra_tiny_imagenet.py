"""Hydra on Tiny ImageNet: one body, a head for each member.

python -m ensdistill.main --config=configs/hydra_tiny_imagenet.py
"""

from ensdistill.config import recipes

get_config = recipes.config('hydra', 'tiny_imagenet')
