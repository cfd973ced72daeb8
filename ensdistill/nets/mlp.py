"""Multi-layer perceptron; images are flattened."""

import functools
import math
from collections.abc import Callable

import flax.linen as nn

from ensdistill.nets import stack


class Hidden(nn.Module):
  """Flatten the last `axes` axes, then apply a dense layer, an activation and dropout."""

  layers: stack.Layers
  features: int
  axes: int
  dropout: float
  activation: Callable = nn.relu

  @nn.compact
  def __call__(self, x):
    own = x.shape[-self.axes :]
    x = x.reshape((*x.shape[: -self.axes], math.prod(own)))
    x = self.activation(self.layers.dense(self.features, name='dense')(x))
    return self.layers.dropout(self.dropout)(x)


def mlp(shape, *, hidden=(64, 64), dropout=0.0):
  """Return the network with these hidden widths."""
  if not hidden or any(width < 1 for width in hidden):
    raise ValueError(f'hidden must list one or more positive widths, not {tuple(hidden)}')
  stages = tuple(
    (
      f'hidden{i}',
      functools.partial(Hidden, features=width, axes=1 if i else len(shape), dropout=dropout),
    )
    for i, width in enumerate(hidden)
  )
  return stack.Network(stages, convolutional=False)
