"""EnD² on Tiny ImageNet: one network learns the distribution of the members' predictions.

python -m ensdistill.main --config=configs/end2_tiny_imagenet.py
"""

from ensdistill.config import recipes

get_config = recipes.config('end2', 'tiny_imagenet')
