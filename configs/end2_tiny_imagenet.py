"""EnD² on Tiny ImageNet: one network learns the distribution of the members' predictions.

python -m ensdistill.main --config=configs/end2_tiny_imagenet.py --config.data.dir=~/data
python -m ensdistill.main --config=configs/end2_tiny_imagenet.py:small --config.data.dir=~/data

The folder tiny-imagenet-200 lies in data.dir.

One GPU or TPU: the full recipe has not been run yet. Two CPU cores: `:small`, within minutes.
Expected numbers: none of a paper with this network is at hand. Malinin et al. (2020) with VGG-16:
error 37.6 ± 0.2 %, the ensemble 36.6 %, one network 41.8 ± 0.6 %.
"""

from configs import common


def get_config(variant=''):
  return common.make('end2', 'tiny_imagenet', variant)
