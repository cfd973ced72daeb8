"""Hydra on ImageNet, which streams from its files: one body, a head for each member.

python -m ensdistill.main --config=configs/hydra_imagenet.py --config.data.dir=~/data
python -m ensdistill.main --config=configs/hydra_imagenet.py:small --config.data.dir=~/data

The folder imagenet, with train and val within, lies in data.dir.

A host with GPUs or TPUs and many CPU cores, which decode the images: the full recipe has not been
run yet. Two CPU cores: `:small`, within minutes. Expected numbers: none of a paper with this
setting is at hand.
"""

from configs import common


def get_config(variant=''):
  return common.make('hydra', 'imagenet', variant)
