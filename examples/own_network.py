"""Custom networks: a Flax module without its last layer, and a list of stages.

  ensdistill train kd_digits:small --config.network.name=examples/own_network.py:CNN
  ensdistill train hydra_digits:small --config.network.name=examples/own_network.py:pyramid \
    --config.network.blocks=2
"""

import functools

import flax.linen as nn


class CNN(nn.Module):
  """For single students, and for heads that are dense layers (student.head_stages=0)."""

  channels: int = 16

  @nn.compact
  def __call__(self, x, train):
    for i in range(2):
      x = nn.Conv(self.channels * 2**i, (3, 3), strides=2)(x)
      x = nn.relu(nn.BatchNorm(use_running_average=not train)(x))
    return x  # images are averaged, and the student adds its dense layer


class Block(nn.Module):
  """A stage: layers are created from `layers`, and axes are counted from the end."""

  layers: tuple
  features: int

  @nn.compact
  def __call__(self, x):
    x = self.layers.conv(self.features, 3, 2, name='conv')(x)
    return nn.relu(self.layers.norm(name='norm')(x))


def pyramid(shape, *, blocks: int = 3):
  """Return the stages; they serve every student, also batch ensembles."""
  return [(f'block{i}', functools.partial(Block, features=16 * 2**i)) for i in range(blocks)]
