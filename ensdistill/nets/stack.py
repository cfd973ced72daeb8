"""A backbone: a list of named stages whose layers are injected.

A stage is a flax module `Stage(layers, ...)` that takes one array. It creates its layers with
`layers.conv(features, kernel, stride, name=...)` and so on, and counts axes from the end. So the
same stage works for one network ([B, ...]), for the members of a batch ensemble ([B, M, ...]) and
for the heads of a multi-head network (vmapped).
"""

import dataclasses
import functools
import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jax import lax

from ensdistill.nets import initial, layers


class Layers(NamedTuple):
  """The layers that a stage builds from; dtype, form and train are already bound."""

  conv: Callable
  dense: Callable
  norm: Callable
  dropout: Callable  # layers.dropout(rate)(x); takes no name, for it has no parameters

  @property
  def train(self) -> bool:
    """Whether the network trains."""
    return not self.dropout.keywords['deterministic']  # type: ignore[attr-defined]


# A name, and a partial of a stage that lacks its layers: (layers, name=...) -> module.
NamedStage = tuple[str, Callable[..., nn.Module]]


def global_mean(x):
  """Return the mean over the image: [..., H, W, C] -> [..., C]."""
  return x.mean((-3, -2))


def identity(x):
  return x


class Network(NamedTuple):
  """The part of a backbone that a network's function returns; only the stages are required."""

  stages: tuple[NamedStage, ...]
  # Output of the last stage -> features [..., C] for the dense head. None: images are averaged.
  pool: Callable | None = identity
  norm: str = 'batch'  # a name in layers.NORMS
  convolutional: bool = True
  whole: bool = False  # one Flax module, whose layers are its own


def max_pool(x, window, stride):
  """Return the maximum over windows of [..., H, W, C], padded so that H becomes ceil(H / stride).

  It is computed from strided slices, because the gradient of a windowed reduction is slow on CPUs.
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


def adaptive_mean(x, size):
  """Return means over windows of [..., H, W, C]: [..., size, size, C], for any H and W.

  As in PyTorch's AdaptiveAvgPool2d, window i covers rows floor(i H / size) to
  ceil((i + 1) H / size) - 1. Windows overlap, and a smaller image is replicated.
  """
  rows, columns = (jnp.asarray(_window_means(n, size)) for n in x.shape[-3:-1])
  means = jnp.einsum(
    'ih,...hwc,jw->...ijc', rows, x.astype(jnp.float32), columns, precision='highest'
  )
  return means.astype(x.dtype)


def _window_means(length, size):
  """Return the matrix [size, length] whose rows take the means of the windows."""
  i, at = np.arange(size)[:, None], np.arange(length)[None]
  inside = (at >= i * length // size) & (at < -(-(i + 1) * length // size))
  return (inside / inside.sum(1, keepdims=True)).astype(np.float32)


@dataclasses.dataclass(frozen=True)
class Backbone:
  """A network's stages, with the normalisation before them and the pooling after them."""

  stages: tuple[NamedStage, ...]
  shape: tuple[int, ...]  # of one input
  mean: tuple[float, ...]  # one per channel or feature, or one for all
  std: tuple[float, ...]
  pool: Callable = identity
  norm: str = 'batch'
  convolutional: bool = True
  dtype: Any = jnp.float32
  form: str = 'auto'
  init: initial.Distribution | None = None  # of all kernels; None: the layers' own
  remat: bool = False  # see rematerialised
  whole: bool = False  # one Flax module, whose layers cannot be replaced

  def normalise(self, x):
    if x.shape[1:] != self.shape:
      raise ValueError(
        f'inputs have shape {x.shape[1:]}, but the network was built for {self.shape}'
      )
    one_axis = (1,) * len(self.shape) + (-1,)
    mean, std = (jnp.asarray(v, jnp.float32).reshape(one_axis) for v in (self.mean, self.std))
    return (x - mean) / std

  def run(self, x, train, stages, outputs=None, conv=layers.Conv, dense=layers.Dense):
    """Run `stages` inside the calling compact module; given `outputs`, add the dense head.

    The head computes in float32, whatever the dtype of the stages. If `init` is set, it replaces
    both defaults of the kernels, he_normal and lecun_normal, in every stage and in the head, as in
    the papers. A layer that asks for another initialiser keeps it.
    """
    conv, dense = _initialised(conv, self.init), _initialised(dense, self.init)
    injected = Layers(
      conv=functools.partial(conv, dtype=self.dtype, form=self.form),
      dense=functools.partial(dense, dtype=self.dtype),
      norm=layers.NORMS[self.norm](train, self.dtype, self.form),
      dropout=functools.partial(nn.Dropout, deterministic=not train),
    )
    call = nn.remat(_call) if self.remat else _call
    for name, stage in stages:
      x = call(stage(injected, name=name), x)
    if outputs is None:
      return x
    x = self.pool(x.astype(jnp.float32))
    head = dense(outputs, dtype=jnp.float32, kernel_init=initial.lecun_normal, name='head')
    return head(x)


def rematerialised(*, remat: bool | None = None) -> bool:
  """Return whether gradients compute the inside of each stage a second time.

  A training step then keeps the outputs of stages alone instead of every activation, and computes
  one more forward pass (Chen et al., 2016, 1604.06174). Nothing else changes: running statistics
  are updated once, and dropout drops the same units.
  """
  return bool(remat)


def _call(stage, x):
  return stage(x)


def _initialised(layer, init):
  """Return the layer with kernels from `init` instead of the defaults; None changes nothing."""
  if init is None:
    return layer

  def with_init(*arguments, kernel_init=initial.he_normal, **settings):
    default = kernel_init in initial.DEFAULTS
    return layer(*arguments, kernel_init=init if default else kernel_init, **settings)

  return with_init


def want_images(network, shape):
  """Raise ValueError unless the shape is that of an image."""
  if len(shape) != 3:
    raise ValueError(
      f'{network} needs images (height, width, channels), not inputs of shape {shape}: use mlp'
    )


def want_positive(network, **settings):
  """Raise ValueError unless every setting is at least 1."""
  for name, value in settings.items():
    if value < 1:
      raise ValueError(f'{name} of {network} must be 1 or more, not {value}')
