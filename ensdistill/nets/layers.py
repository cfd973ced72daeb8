"""Layers over any leading axes: [..., H, W, C] for convolutions, [..., C] for dense ones.

Parameters and batch statistics are float32; `dtype` is what convolutions and products compute in.
`form` says how: 'plain' (lax), 'cpu' (the forms of cpu.py; the same numbers to rounding), or
'auto': 'cpu' where what is traced is known to run on one CPU device.
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from ensdistill.nets import cpu, initial

FORMS = ('auto', 'plain', 'cpu')
FACTORS = ('r', 's')  # the rank-one factors of a BatchEnsemble layer
BIASES = ('shared', 'member')
MEMBER_LEAVES = (*FACTORS, 'b')  # all of its parameters that lead with the member axis


def _is_cpu(form: str) -> bool:
  return form == 'cpu' or (form == 'auto' and jax.default_backend() == 'cpu' and _on_one_device())


def _on_one_device() -> bool:
  """Whether what is traced runs on one device: it is the only one, or a shard_map chose it."""
  spread = jax.sharding.get_abstract_mesh()
  is_manual = lambda axis: axis in spread.manual_axes or spread.shape[axis] == 1
  return jax.device_count() == 1 or (not spread.empty and all(map(is_manual, spread.axis_names)))


def _pair(value):
  return tuple(value) if isinstance(value, tuple | list) else (value, value)


def _pads(padding, sizes, kernel, strides):
  if padding == 'SAME':
    return tuple(lax.padtype_to_pads(sizes, kernel, strides, 'SAME'))
  return tuple((p, p) for p in _pair(padding))


class Conv(nn.Module):
  """Convolution of [..., H, W, C]; padding 'SAME' or a number of pixels on every side."""

  features: int
  kernel: int | tuple[int, int] = 3
  stride: int | tuple[int, int] = 1
  padding: Any = 'SAME'
  use_bias: bool = False
  dtype: Any = jnp.float32
  form: str = 'auto'
  kernel_init: Callable = initial.he_normal

  def weight(self, x):
    shape = (*_pair(self.kernel), x.shape[-1], self.features)
    return initial.param(self, 'kernel', self.kernel_init, shape)

  def window(self, x):
    """Strides and padding."""
    strides = _pair(self.stride)
    return strides, _pads(self.padding, x.shape[-3:-1], _pair(self.kernel), strides)

  def linear(self, x):
    w = self.weight(x).astype(self.dtype)
    images = x.astype(self.dtype).reshape((-1, *x.shape[-3:]))
    y = (cpu.conv if _is_cpu(self.form) else cpu.convolve)(images, w, *self.window(x))
    return y.reshape((*x.shape[:-3], *y.shape[1:]))

  @nn.compact
  def __call__(self, x):
    return _add_bias(self, self.linear(x))


class Dense(nn.Module):
  """y = x W + b over the last axis."""

  features: int
  use_bias: bool = True
  dtype: Any = jnp.float32
  kernel_init: Callable = initial.he_normal
  axes: int = 1  # of one member's example: 1 for features [C], 3 for a grid of them [H, W, C]

  def linear(self, x):
    w = initial.param(self, 'kernel', self.kernel_init, (x.shape[-1], self.features))
    return x.astype(self.dtype) @ w.astype(self.dtype)

  @nn.compact
  def __call__(self, x):
    return _add_bias(self, self.linear(x))


def _add_bias(layer, y):
  if not layer.use_bias:
    return y
  bias = layer.param('bias', nn.initializers.zeros, (layer.features,))
  return y + bias.astype(y.dtype).reshape((1,) * (y.ndim - 1) + (-1,))


class BatchEnsembleConv(Conv):
  """Conv for M members that share one kernel; see `batch_ensemble`. [..., M or 1, H, W, C]."""

  members: int = 1
  factor_init: Callable = nn.initializers.ones
  bias: str = 'shared'

  @nn.compact
  def __call__(self, x):
    return _batch_ensemble(self, x, own_axes=3)


class BatchEnsembleDense(Dense):
  """Dense for M members that share one kernel; see `batch_ensemble`. [..., M or 1, (H, W,) C]."""

  members: int = 1
  factor_init: Callable = nn.initializers.ones
  bias: str = 'shared'

  @nn.compact
  def __call__(self, x):
    return _batch_ensemble(self, x, own_axes=self.axes)


def _batch_ensemble(layer, x, own_axes):
  """Rank-one members: y_m = s_m * W(r_m * x_m), r over input and s over output channels.

  A bias is one of two: 'member', y_m + b_m with b_m of zero at the start (Nam et al., 2021), or
  'shared', s_m * (W(r_m * x_m) + b) (Nam et al., 2022).
  """

  def per_member(v):
    leading = (1,) * (x.ndim - own_axes - 1)
    return v.astype(layer.dtype).reshape((*leading, len(v), *(1,) * (own_axes - 1), -1))

  assert layer.bias in BIASES, layer.bias
  r = initial.param(layer, 'r', layer.factor_init, (layer.members, x.shape[-1]))
  s = initial.param(layer, 's', layer.factor_init, (layer.members, layer.features))
  if isinstance(layer, Conv) and _is_cpu(layer.form):
    y = _kernels_of_members(layer, x, r, s)
  else:
    y = layer.linear(x.astype(layer.dtype) * per_member(r)) * per_member(s)
  if not layer.use_bias:
    return y
  if layer.bias == 'shared':
    return y + per_member(s * layer.param('bias', nn.initializers.zeros, (layer.features,))[None])
  return y + per_member(layer.param('b', nn.initializers.zeros, (layer.members, layer.features)))


def _kernels_of_members(layer, x, r, s):
  """s_m * W(r_m * x_m) as W_m x_m: the factors' gradients are sums over kernels, not images.

  The price is M kernels, and as many gradients, while the layer computes.
  """
  w = layer.weight(x)[None] * r[:, None, None, :, None] * s[:, None, None, None, :]
  images = x.astype(layer.dtype).reshape((-1, *x.shape[-4:]))
  y = cpu.member_conv(images, w.astype(layer.dtype), *layer.window(x))
  return y.reshape((*x.shape[:-4], *y.shape[1:]))


class BatchNorm(nn.Module):
  """Batch norm over all axes but the last; running = .9 running + .1 batch, variances biased.

  Statistics are computed in float32. With train False the running ones are used.
  """

  train: bool
  dtype: Any = jnp.float32
  form: str = 'auto'
  momentum: float = 0.9
  epsilon: float = 1e-5

  @nn.compact
  def __call__(self, x):
    shape = x.shape[-1:]
    scale = self.param('scale', nn.initializers.ones, shape)
    bias = self.param('bias', nn.initializers.zeros, shape)
    mean = self.variable('batch_stats', 'mean', jnp.zeros, shape)
    variance = self.variable('batch_stats', 'var', jnp.ones, shape)
    x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    if not self.train:
      y = _normalise(x, mean.value, variance.value, scale, bias, self.epsilon)
      return y.astype(self.dtype)
    if _is_cpu(self.form):
      y, batch = cpu.batch_norm(x, scale, bias, self.epsilon)
    else:
      axes = tuple(range(x.ndim - 1))
      batch_mean = x.mean(axes)
      batch = batch_mean, jnp.maximum((x * x).mean(axes) - batch_mean**2, 0)
      y = _normalise(x, *batch, scale, bias, self.epsilon)
    if self.is_mutable_collection('batch_stats') and not self.is_initializing():
      for running, new in zip((mean, variance), batch):
        running.value = self.momentum * running.value + (1 - self.momentum) * new
    return y.astype(self.dtype)


class GroupNorm(nn.Module):
  """Each image [H, W, C] by the statistics of a group of channels (Wu and He, 2018, 1803.08494).

  A group has 16 channels, or their largest common divisor with 16. No running statistics.
  """

  dtype: Any = jnp.float32
  epsilon: float = 1e-5

  @nn.compact
  def __call__(self, x):
    own = math.gcd(x.shape[-1], 16)
    groups = x.reshape((*x.shape[:-1], x.shape[-1] // own, own))
    return _affine(self, x, _standardise(groups, (-4, -3, -1), self.epsilon))


class LayerNorm(nn.Module):
  """Each position by the statistics of its own channels (Ba et al., 2016, 1607.06450)."""

  dtype: Any = jnp.float32
  epsilon: float = 1e-6

  @nn.compact
  def __call__(self, x):
    return _affine(self, x, _standardise(x, (-1,), self.epsilon))


# (train, dtype, form) -> a maker of norms that takes their name
NORMS = {
  'batch': lambda train, dtype, form: functools.partial(BatchNorm, train, dtype=dtype, form=form),
  'group': lambda train, dtype, form: functools.partial(GroupNorm, dtype=dtype),
  'layer': lambda train, dtype, form: functools.partial(LayerNorm, dtype=dtype),
}


def _standardise(x, axes, epsilon):
  x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
  centred = x - x.mean(axes, keepdims=True)
  return centred * lax.rsqrt((centred**2).mean(axes, keepdims=True) + epsilon)


def _affine(norm, x, standard):
  """Scale and bias a channel, made by the norm that calls it, on standardised values of x."""
  per_channel = (1,) * (x.ndim - 1) + (-1,)
  scale = norm.param('scale', nn.initializers.ones, x.shape[-1:]).reshape(per_channel)
  bias = norm.param('bias', nn.initializers.zeros, x.shape[-1:]).reshape(per_channel)
  return (standard.reshape(x.shape) * scale + bias).astype(norm.dtype)


def _normalise(x, mean, variance, scale, bias, epsilon):
  slope = scale * lax.rsqrt(variance + epsilon)
  slope, shift = (v.reshape((1,) * (x.ndim - 1) + (-1,)) for v in (slope, bias - mean * slope))
  return x * slope + shift
