"""EnD² on Tiny ImageNet: one network learns the distribution of the members' predictions.

python -m ensdistill.main --config=configs/end2_tiny_imagenet.py --config.data.dir=~/data
python -m ensdistill.main --config=configs/end2_tiny_imagenet.py:small --config.data.dir=~/data

The folder tiny-imagenet-200 lies in data.dir.
"""

from configs import common


def get_config(variant=''):
  return common.make('end2', 'tiny_imagenet', variant)
