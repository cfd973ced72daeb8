"""A backbone: named stages over negative axes, written once, with their layers injected.

A stage is a flax module `Stage(layers, ...)` that takes one array. It makes its layers by
`layers.conv(features, kernel, stride, name=...)` and so on, and counts axes from the end, so the
same stage serves one network ([B, ...]), the members of a batch ensemble ([B, M, ...]) and the
heads of a multi-head network (vmapped).
"""

import dataclasses
import functools
import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax.numpy as jnp
from jax import lax

from ensdistill.nets import initial, layers as layers_lib


class Layers(NamedTuple):
  """What a stage is built of; dtype, form and train or not are bound already."""

  conv: Callable
  dense: Callable
  norm: Callable
  dropout: Callable  # layers.dropout(rate)(x); needs no name, it has no parameters


def global_mean(x):
  """Mean over the image: [..., H, W, C] -> [..., C]."""
  return x.mean((-3, -2))


def identity(x):
  return x


class Network(NamedTuple):
  """What a network's function returns; only the stages have no default."""

  stages: tuple[tuple[str, Callable], ...]  # (name, partial of a module that wants its layers)
  pool: Callable = identity  # what the last stage leaves -> features [..., C] for the dense head
  norm: str = 'batch'  # which one of layers.NORMS its stages get
  convolutional: bool = True


def max_pool(x, window, stride):
  """Maximum over windows of [..., H, W, C], padded so that H becomes ceil(H / stride).

  As a maximum of strided slices, because a windowed reduction's gradient is slow on CPUs.
  """
  sizes = x.shape[-3:-1]
  pads = lax.padtype_to_pads(sizes, (window, window), (stride, stride), 'SAME')
  padding = [(0, 0)] * (x.ndim - 3) + [*pads, (0, 0)]
  x = jnp.pad(x, padding, constant_values=-jnp.inf)
  rows, columns = ((size - 1) // stride * stride + 1 for size in sizes)
  return functools.reduce(
    jnp.maximum,
    [
      x[..., i : i + rows : stride, j : j + columns : stride, :]
      for i, j in itertools.product(range(window), repeat=2)
    ],
  )


@dataclasses.dataclass(frozen=True)
class Backbone:
  """A network's stages, what lies before them (normalisation) and after (pooling)."""

  stages: tuple[tuple[str, Callable], ...]  # (name, partial of a module that wants its layers)
  shape: tuple[int, ...]  # of one input
  mean: tuple[float, ...]  # per channel or feature, or one for all
  std: tuple[float, ...]
  pool: Callable = identity
  norm: str = 'batch'
  convolutional: bool = True
  dtype: Any = jnp.float32
  form: str = 'auto'

  def normalise(self, x):
    if x.shape[1:] != self.shape:
      raise ValueError(f'inputs have shape {x.shape[1:]}, the network was made for {self.shape}')
    one_axis = (1,) * len(self.shape) + (-1,)
    mean, std = (jnp.asarray(v, jnp.float32).reshape(one_axis) for v in (self.mean, self.std))
    return (x - mean) / std

  def run(self, x, train, stages, outputs=None, conv=layers_lib.Conv, dense=layers_lib.Dense):
    """Runs `stages` inside the compact module that calls it; with `outputs` also the dense head.

    The head computes in float32 whatever the stages do.
    """
    layers = Layers(
      conv=functools.partial(conv, dtype=self.dtype, form=self.form),
      dense=functools.partial(dense, dtype=self.dtype),
      norm=layers_lib.NORMS[self.norm](train, self.dtype, self.form),
      dropout=functools.partial(nn.Dropout, deterministic=not train),
    )
    for name, stage in stages:
      x = stage(layers, name=name)(x)
    if outputs is None:
      return x
    x = self.pool(x.astype(jnp.float32))
    head = dense(outputs, dtype=jnp.float32, kernel_init=initial.lecun_normal, name='head')
    return head(x)


def want_images(network, shape):
  if len(shape) != 3:
    raise ValueError(f'{network} takes images (height, width, channels), not {shape}: use mlp')


def want_positive(network, **settings):
  for name, value in settings.items():
    if value < 1:
      raise ValueError(f'{name} of {network} is 1 or more, not {value}')
