"""Knowledge distillation on ImageNet, which streams from its files.

python -m ensdistill.main --config=configs/kd_imagenet.py --config.data.dir=~/data
python -m ensdistill.main --config=configs/kd_imagenet.py:small --config.data.dir=~/data

The folder imagenet, with train and val within, lies in data.dir.
"""

from configs import common


def get_config(variant=''):
  return common.make('kd', 'imagenet', variant)
