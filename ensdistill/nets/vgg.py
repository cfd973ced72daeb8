"""VGG (Simonyan and Zisserman, 2015) with norm layers, as EnD² uses it for small images."""

import functools

import flax.linen as nn

from ensdistill import names
from ensdistill.nets import mlp, stack

# Depth -> number of convolutions in each of the five blocks (16: configuration D).
DEPTHS = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}

leaky_relu = functools.partial(nn.leaky_relu, negative_slope=0.2)


class Convolution(nn.Module):
  """Convolution, norm, LeakyReLU, dropout. The last one of a block then halves the image."""

  layers: stack.Layers
  features: int
  dropout: float
  last: bool

  @nn.compact
  def __call__(self, x):
    conv, _, norm, dropout = self.layers
    x = leaky_relu(norm(name='norm')(conv(self.features, 3, name='conv')(x)))
    x = dropout(self.dropout)(x)
    return stack.max_pool(x, 2, 2) if self.last else x


class Pool(nn.Module):
  """Average pooling to size x size; it has no parameters."""

  layers: stack.Layers
  size: int

  @nn.compact
  def __call__(self, x):
    return stack.adaptive_mean(x, self.size)


# What the dense layers see -> the side to which the last feature is pooled; None: as it is
HEADS = {'flat': None, 'pooled': 7}


def vgg(shape, *, depth=16, channels=64, dropout=0.0, norm='batch', head='flat'):
  """Return the network: blocks of `channels` times 1, 2, 4, 8, 8, then two dense layers.

  The dense layers have 32 `channels` features. `dropout` is the rate after a dense layer; the rate
  after a convolution is lower by 0.3, but at least 0.2.

  head: 'flat' flattens the last feature. 'pooled' first pools it to 7 x 7 pixels, as EnD²'s
    authors do: the first dense layer has 25,088 inputs, and the network 70 million parameters.
    Images of 32 pixels end as one pixel, so this pixel is copied 49 times.
  """
  stack.want_images('vgg', shape)
  if depth not in DEPTHS:
    known = ', '.join(map(str, DEPTHS))
    raise ValueError(f'depth of a vgg must be one of {known}, not {depth}')
  stack.want_positive('vgg', channels=channels)
  stages: list[stack.NamedStage] = []
  for i, (factor, count) in enumerate(zip((1, 2, 4, 8, 8), DEPTHS[depth])):
    for j in range(count):
      stage = functools.partial(
        Convolution,
        features=factor * channels,
        dropout=max(dropout - 0.3, 0.2) if dropout else 0.0,
        last=j == count - 1,
      )
      stages.append((f'stage{i}_conv{j}', stage))
  size = names.lookup('network.head', head, HEADS)
  if size:
    stages.append(('pool', functools.partial(Pool, size=size)))
  for i, axes in enumerate((3, 1)):
    dense = functools.partial(
      mlp.Hidden, features=32 * channels, axes=axes, dropout=dropout, activation=leaky_relu
    )
    stages.append((f'dense{i}', dense))
  return stack.Network(tuple(stages), norm=norm)
