"""Pre-activation Wide-ResNet d-k (Zagoruyko and Komodakis, 2016): 6n + 4 layers."""

import functools

import flax.linen as nn

from ensdistill.nets import stack


class Stem(nn.Module):
  """A convolution without norm: the first block begins with one."""

  layers: stack.Layers
  features: int

  @nn.compact
  def __call__(self, x):
    return self.layers.conv(self.features, 3, name='conv')(x)


class Block(nn.Module):
  """Norm, ReLU, convolution, twice. Where the shape changes, the shortcut projects the raw input.

  The last block of a network ends with the norm and ReLU that precede pooling. So a head that
  begins at the last block owns them.
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
  """Return WRN-depth-width. Dropout precedes the second convolution of each block."""
  stack.want_images('wide_resnet', shape)
  if depth < 10 or depth % 6 != 4:
    raise ValueError(
      f'depth of a wide_resnet must be 6n + 4 (10, 16, 22, 28, 40, ...), not {depth}'
    )
  if width < 1:
    raise ValueError(f'width of a wide_resnet must be 1 or more, not {width}')
  blocks = depth // 6
  stages: list[stack.NamedStage] = [('stem', functools.partial(Stem, features=16))]
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
