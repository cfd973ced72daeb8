"""EnD (Malinin et al., 2020) on Tiny ImageNet.

python -m ensdistill.main --config=configs/end_tiny_imagenet.py
"""

from ensdistill.config import recipes

get_config = recipes.config('end', 'tiny_imagenet')
