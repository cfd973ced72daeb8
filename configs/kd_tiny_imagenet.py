"""Knowledge distillation on Tiny ImageNet: one network learns the ensemble's mean prediction.

python -m ensdistill.main --config=configs/kd_tiny_imagenet.py --config.data.dir=~/data
python -m ensdistill.main --config=configs/kd_tiny_imagenet.py:small --config.data.dir=~/data

The folder tiny-imagenet-200 lies in data.dir.

One GPU or TPU: the full recipe has not been run yet. Two CPU cores: `:small`, within minutes.
Expected numbers: none of a paper with this setting is at hand.
"""

from configs import common


def get_config(variant=''):
  return common.make('kd', 'tiny_imagenet', variant)
