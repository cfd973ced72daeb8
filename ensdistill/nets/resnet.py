"""ResNet v1 (He et al., 2016) for small images and for images of ImageNet's size."""

import functools

import flax.linen as nn

from ensdistill.nets import stack


class Stem(nn.Module):
  """Convolution, norm, ReLU. If large (7x7), stride and max pool each halve the image."""

  layers: stack.Layers
  features: int
  large: bool = False

  @nn.compact
  def __call__(self, x):
    kernel, stride = (7, 2) if self.large else (3, 1)
    x = self.layers.conv(self.features, kernel, stride, name='conv')(x)
    x = nn.relu(self.layers.norm(name='norm')(x))
    return stack.max_pool(x, 3, 2) if self.large else x


class Block(nn.Module):
  """Two convolutions. Where the shape changes, the shortcut is a 1x1 projection with norm."""

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
    return _add(self, x, y)


class Bottleneck(nn.Module):
  """1x1, 3x3 and 1x1 convolutions; the last one has four times the features.

  The 3x3 convolution has the stride ("v1.5"); in the paper the first convolution has it.
  """

  layers: stack.Layers
  features: int
  stride: int
  dropout: float

  @nn.compact
  def __call__(self, x):
    conv, _, norm, dropout = self.layers
    y = nn.relu(norm(name='norm1')(conv(self.features, 1, name='conv1')(x)))
    y = nn.relu(norm(name='norm2')(conv(self.features, 3, self.stride, name='conv2')(y)))
    y = dropout(self.dropout)(y)
    y = norm(name='norm3')(conv(4 * self.features, 1, name='conv3')(y))
    return _add(self, x, y)


def _add(block, x, y):
  """Return ReLU(shortcut + y); the shortcut's layers belong to `block`, which calls this."""
  if x.shape[-1] != y.shape[-1] or block.stride != 1:
    x = block.layers.conv(y.shape[-1], 1, block.stride, name='shortcut')(x)
    x = block.layers.norm(name='shortcut_norm')(x)
  return nn.relu(x + y)


def _network(stem, block, counts, channels, dropout, norm):
  stages: list[stack.NamedStage] = [('stem', functools.partial(stem, features=channels))]
  for i, count in enumerate(counts):
    for j in range(count):
      stride = 2 if i and not j else 1
      stage = functools.partial(block, features=channels * 2**i, stride=stride, dropout=dropout)
      stages.append((f'stage{i}_block{j}', stage))
  return stack.Network(tuple(stages), stack.global_mean, norm)


def resnet(shape, *, depth=20, dropout=0.0, norm='batch'):
  """Return the network for small images: 6n + 2 layers with 16, 32 and 64 channels.

  Dropout precedes the last convolution of each block.
  """
  stack.want_images('resnet', shape)
  if depth < 8 or depth % 6 != 2:
    raise ValueError(f'depth of a resnet must be 6n + 2 (8, 20, 32, 56, ...), not {depth}')
  return _network(Stem, Block, (depth // 6,) * 3, 16, dropout, norm)


DEPTHS = {
  18: (Block, (2, 2, 2, 2)),
  34: (Block, (3, 4, 6, 3)),
  50: (Bottleneck, (3, 4, 6, 3)),
  101: (Bottleneck, (3, 4, 23, 3)),
  152: (Bottleneck, (3, 8, 36, 3)),
}


def imagenet_resnet(shape, *, depth=50, channels=64, dropout=0.0, norm='batch'):
  """Return the network for images of about 224 pixels: a large stem and four stages.

  The first stage has `channels` channels. Dropout precedes the last convolution of each block.
  """
  stack.want_images('imagenet_resnet', shape)
  if depth not in DEPTHS:
    known = ', '.join(map(str, DEPTHS))
    raise ValueError(f'depth of an imagenet_resnet must be one of {known}, not {depth}')
  stack.want_positive('imagenet_resnet', channels=channels)
  block, counts = DEPTHS[depth]
  return _network(functools.partial(Stem, large=True), block, counts, channels, dropout, norm)
