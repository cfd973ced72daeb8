"""Pre-activation Wide-ResNet d-k (Zagoruyko and Komodakis, 2016): 6n + 4 layers."""

import functools

import flax.linen as nn

from ensdistill.nets import stack


class Stem(nn.Module):
  """A convolution alone: the first block brings the norm."""

  layers: stack.Layers
  features: int

  @nn.compact
  def __call__(self, x):
    return self.layers.conv(self.features, 3, name='conv')(x)


class Block(nn.Module):
  """Norm-ReLU-conv twice; where the shape changes the shortcut projects the raw input.

  The last block of a network closes with the norm and ReLU before pooling, so that a head cut off
  there owns them.
  """

  layers: stack.Layers
  features: int
  stride: int
  dropout: float
  last: bool

  @nn.compact
  def __call__(self, x):
    conv, _, norm, dropout = self.layers
    y = conv(self.features, 3, self.stride, name='conv1')(nn.relu(norm(name='norm1')(x)))
    y = dropout(self.dropout)(nn.relu(norm(name='norm2')(y)))
    y = conv(self.features, 3, name='conv2')(y)
    if x.shape[-1] != self.features or self.stride != 1:
      x = conv(self.features, 1, self.stride, name='shortcut')(x)
    x = x + y
    return nn.relu(norm(name='norm_out')(x)) if self.last else x


def wide_resnet(shape, *, depth=28, width=1, dropout=0.0, norm='batch'):
  """Stages and pooling of WRN-depth-width; dropout lies before a block's second convolution."""
  stack.want_images('wide_resnet', shape)
  if depth < 10 or depth % 6 != 4:
    raise ValueError(f'a wide_resnet has depth 6n + 4 (10, 16, 22, 28, 40, ...), not {depth}')
  if width < 1:
    raise ValueError(f'the width of a wide_resnet is 1 or more, not {width}')
  blocks = depth // 6
  stages = [('stem', functools.partial(Stem, features=16))]
  for i, features in enumerate((16, 32, 64)):
    for j in range(blocks):
      block = functools.partial(
        Block,
        features=features * width,
        stride=2 if i and not j else 1,
        dropout=dropout,
        last=i == 2 and j == blocks - 1,
      )
      stages.append((f'stage{i}_block{j}', block))
  return stack.Network(tuple(stages), stack.global_mean, norm)
