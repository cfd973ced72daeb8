"""Hydra on ImageNet, which streams from its files: one body, a head for each member.

python -m ensdistill.main --config=configs/hydra_imagenet.py
"""

from ensdistill.config import recipes

get_config = recipes.config('hydra', 'imagenet')
