"""Hydra on ImageNet, which streams from its files: one body, a head for each member.

python -m ensdistill.main --config=configs/hydra_imagenet.py --config.data.dir=~/data
python -m ensdistill.main --config=configs/hydra_imagenet.py:small --config.data.dir=~/data

The folder imagenet, with train and val within, lies in data.dir.
"""

from configs import common


def get_config(variant=''):
  return common.make('hydra', 'imagenet', variant)
