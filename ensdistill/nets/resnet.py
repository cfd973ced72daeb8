"""ResNet v1 for small images (He et al., 2016): 6n + 2 layers, 16, 32 and 64 channels."""

import functools

import flax.linen as nn

from ensdistill.nets import stack


class Stem(nn.Module):
  """Convolution, norm, ReLU."""

  layers: stack.Layers
  features: int

  @nn.compact
  def __call__(self, x):
    x = self.layers.conv(self.features, 3, name='conv')(x)
    return nn.relu(self.layers.norm(name='norm')(x))


class Block(nn.Module):
  """Two convolutions; where the shape changes the shortcut is a 1x1 projection with norm."""

  layers: stack.Layers
  features: int
  stride: int
  dropout: float

  @nn.compact
  def __call__(self, x):
    conv, _, norm, dropout = self.layers
    y = nn.relu(norm(name='norm1')(conv(self.features, 3, self.stride, name='conv1')(x)))
    y = dropout(self.dropout)(y)
    y = norm(name='norm2')(conv(self.features, 3, name='conv2')(y))
    if x.shape[-1] != self.features or self.stride != 1:
      x = conv(self.features, 1, self.stride, name='shortcut')(x)
      x = norm(name='shortcut_norm')(x)
    return nn.relu(x + y)


def resnet(shape, *, depth=20, dropout=0.0):
  """Stages and pooling of a ResNet; dropout lies between a block's two convolutions."""
  stack.want_images('resnet', shape)
  if depth < 8 or depth % 6 != 2:
    raise ValueError(f'a resnet has depth 6n + 2 (8, 20, 32, 56, ...), not {depth}')
  stages = [('stem', functools.partial(Stem, features=16))]
  for i, features in enumerate((16, 32, 64)):
    for j in range(depth // 6):
      stride = 2 if i and not j else 1
      block = functools.partial(Block, features=features, stride=stride, dropout=dropout)
      stages.append((f'stage{i}_block{j}', block))
  return tuple(stages), stack.global_mean
