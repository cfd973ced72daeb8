"""Vision transformer (Dosovitskiy et al., 2021) without a class token (Beyer et al., 2205.01580).

Positions are fixed sines and cosines. The head's input is the mean over patches.
"""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from ensdistill.nets import initial, stack


class Patches(nn.Module):
  """Embed each square of patch x patch pixels as one vector and add its position."""

  layers: stack.Layers
  features: int
  patch: int

  @nn.compact
  def __call__(self, x):
    conv = functools.partial(self.layers.conv, use_bias=True, name='conv')
    x = conv(self.features, self.patch, self.patch)(x)
    return x + positions(*x.shape[-3:]).astype(x.dtype).reshape((1,) * (x.ndim - 3) + x.shape[-3:])


def positions(height, width, features):
  """Return [H, W, C]: sines and cosines of the column, then of the row, at C / 4 frequencies."""
  frequencies = 1 / 10_000 ** np.linspace(0, 1, features // 4)
  columns, rows = np.meshgrid(np.arange(width), np.arange(height))
  angles = [place[..., None] * frequencies for place in (columns, rows)]
  return np.concatenate([f(a) for a in angles for f in (np.sin, np.cos)], -1).astype(np.float32)


class Block(nn.Module):
  """x + attention(norm(x)), then x + MLP(norm(x)); the last block ends with the norm."""

  layers: stack.Layers
  heads: int
  dropout: float
  last: bool

  @nn.compact
  def __call__(self, x):
    _, dense, norm, dropout = self.layers
    dense = functools.partial(dense, axes=3)
    linear = functools.partial(dense, kernel_init=initial.lecun_normal)  # no ReLU follows
    features = x.shape[-1]
    y = attend(linear(3 * features, name='qkv')(norm(name='norm1')(x)), self.heads)
    x = x + dropout(self.dropout)(linear(features, name='out')(y))
    y = nn.gelu(dense(4 * features, name='grow')(norm(name='norm2')(x)))
    x = x + dropout(self.dropout)(linear(features, name='shrink')(y))
    return norm(name='norm_out')(x) if self.last else x


def attend(qkv, heads):
  """Return softmax(q k^T / sqrt(d)) v per head over all positions: [..., H, W, C].

  qkv is [..., H, W, 3 C]. The softmax is computed in float32.
  """
  *leading, height, width, features = qkv.shape
  split = qkv.reshape((*leading, height * width, 3, heads, features // (3 * heads)))
  q, k, v = (split[..., i, :, :] for i in range(3))
  scores = jnp.einsum('...qhd,...khd->...hqk', q, k).astype(jnp.float32)
  weights = jax.nn.softmax(scores / np.sqrt(q.shape[-1]), -1).astype(v.dtype)
  y = jnp.einsum('...hqk,...khd->...qhd', weights, v)
  return y.reshape((*leading, height, width, features // 3))


def vit(shape, *, patch=4, depth=6, channels=192, heads=3, dropout=0.0, norm='layer'):
  """Return `depth` blocks of `channels` features; dropout follows attention and the MLP."""
  stack.want_images('vit', shape)
  stack.want_positive('vit', patch=patch, depth=depth, channels=channels, heads=heads)
  if any(size % patch for size in shape[:2]):
    raise ValueError(
      f'patch={patch} does not divide images of {shape[0]} x {shape[1]}: choose a common divisor'
    )
  if channels % 4 or channels % heads:
    raise ValueError(
      f'channels of a vit must be a multiple of 4 and of heads={heads}, not {channels}'
    )
  patches = functools.partial(Patches, features=channels, patch=patch)
  stages: list[stack.NamedStage] = [('patches', patches)]
  for i in range(depth):
    block = functools.partial(Block, heads=heads, dropout=dropout, last=i == depth - 1)
    stages.append((f'block{i}', block))
  return stack.Network(tuple(stages), stack.global_mean, norm, convolutional=False)
