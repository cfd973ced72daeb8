"""Layers with any leading axes: [..., H, W, C] for convolutions, [..., C] for dense layers.

Parameters and batch statistics are float32; convolutions and matrix products compute in `dtype`.
`form` selects the implementation: 'plain' (lax), 'cpu' (see cpu.py), 'tpu' (on one chip, one kernel
per member of a BatchEnsemble of at most KERNELS) or 'auto': 'cpu' if the traced program is known to
run on one CPU device, 'tpu' on TPUs, otherwise 'plain'. They are equal up to rounding.
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

FORMS = ('auto', 'plain', 'cpu', 'tpu')
FACTORS = ('r', 's')  # the rank-one factors of a BatchEnsemble layer
BIASES = ('shared', 'member')
MEMBER_LEAVES = (*FACTORS, 'b')  # its parameters with a leading member axis
KERNELS = 8  # more members share one kernel on TPUs: their kernels and gradients need memory


def _is_cpu(form: str) -> bool:
  return form == 'cpu' or (form == 'auto' and jax.default_backend() == 'cpu' and _on_one_device())


def _on_one_device() -> bool:
  """Return whether the traced program runs on one device: the only one, or one of a shard_map."""
  mesh = jax.sharding.get_abstract_mesh()
  if mesh.empty:
    return jax.device_count() == 1
  split = [axis for axis in mesh.axis_names if mesh.shape[axis] > 1]
  return all(axis in mesh.manual_axes for axis in split)


def is_tpu(form: str) -> bool:
  """Return whether a form is that for TPUs."""
  return form == 'tpu' or (form == 'auto' and jax.default_backend() == 'tpu')


def _pair(value):
  return tuple(value) if isinstance(value, tuple | list) else (value, value)


def _pads(padding, sizes, kernel, strides):
  if padding == 'SAME':
    return tuple(lax.padtype_to_pads(sizes, kernel, strides, 'SAME'))
  return tuple((p, p) for p in _pair(padding))


class Conv(initial.Layer):
  """Convolution of [..., H, W, C]; padding is 'SAME' or the number of pixels on each side."""

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
    return self.parameter('kernel', self.kernel_init, shape)

  def window(self, x):
    """Return strides and padding."""
    strides = _pair(self.stride)
    return strides, _pads(self.padding, x.shape[-3:-1], _pair(self.kernel), strides)

  def linear(self, x):
    w = self.weight(x).astype(self.dtype)
    images = x.astype(self.dtype).reshape((-1, *x.shape[-3:]))
    convolve = cpu.conv if _is_cpu(self.form) else cpu.convolve
    y = convolve(images, w, *self.window(x))
    return y.reshape((*x.shape[:-3], *y.shape[1:]))

  @nn.compact
  def __call__(self, x):
    return _add_bias(self, self.linear(x))


class Dense(initial.Layer):
  """Dense layer y = x W + b over the last axis."""

  features: int
  use_bias: bool = True
  dtype: Any = jnp.float32
  kernel_init: Callable = initial.he_normal
  axes: int = 1  # of one example of one member: 1 for features [C], 3 for a grid [H, W, C]

  def linear(self, x):
    w = self.parameter('kernel', self.kernel_init, (x.shape[-1], self.features))
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
  """Conv for M members with one kernel, over [..., M or 1, H, W, C]; see _batch_ensemble."""

  members: int = 1
  factor_init: Callable = nn.initializers.ones
  bias: str = 'shared'

  @nn.compact
  def __call__(self, x):
    return _batch_ensemble(self, x, own_axes=3)


class BatchEnsembleDense(Dense):
  """Dense for M members with one kernel, over [..., M or 1, (H, W,) C]; see _batch_ensemble."""

  members: int = 1
  factor_init: Callable = nn.initializers.ones
  bias: str = 'shared'

  @nn.compact
  def __call__(self, x):
    return _batch_ensemble(self, x, own_axes=self.axes)


def _batch_ensemble(layer, x, own_axes):
  """Return y_m = s_m * W(r_m * x_m), with r over input channels and s over output channels.

  The bias is 'member', y_m + b_m with b_m = 0 at the start (Nam et al., 2021), or 'shared',
  s_m * (W(r_m * x_m) + b) (Nam et al., 2022).
  """

  def per_member(v):
    leading = (1,) * (x.ndim - own_axes - 1)
    return v.astype(layer.dtype).reshape((*leading, len(v), *(1,) * (own_axes - 1), -1))

  assert layer.bias in BIASES, layer.bias
  r = layer.parameter('r', layer.factor_init, (layer.members, x.shape[-1]))
  s = layer.parameter('s', layer.factor_init, (layer.members, layer.features))
  if isinstance(layer, Conv) and _has_kernels(layer):
    y = _kernels_of_members(layer, x, r, s)
  else:
    y = layer.linear(x.astype(layer.dtype) * per_member(r)) * per_member(s)
  if not layer.use_bias:
    return y
  if layer.bias == 'shared':
    return y + per_member(s * layer.param('bias', nn.initializers.zeros, (layer.features,))[None])
  return y + per_member(layer.param('b', nn.initializers.zeros, (layer.members, layer.features)))


def _has_kernels(layer) -> bool:
  if is_tpu(layer.form):  # several chips would reduce the gradient of every member's kernel
    return layer.members <= KERNELS and _on_one_device()
  return _is_cpu(layer.form)


def _kernels_of_members(layer, x, r, s):
  """Return s_m * W(r_m * x_m) as W_m x_m, so factor gradients are sums over kernels, not images.

  The layer then needs memory for M kernels and their gradients.
  """
  w = layer.weight(x)[None] * r[:, None, None, :, None] * s[:, None, None, None, :]
  images = x.astype(layer.dtype).reshape((-1, *x.shape[-4:]))
  convolve = cpu.member_conv if _is_cpu(layer.form) else _member_conv
  y = convolve(images, w.astype(layer.dtype), *layer.window(x))
  return y.reshape((*x.shape[:-4], *y.shape[1:]))


def _member_conv(x, w, strides, padding):
  """Convolve x [B, M or 1, H, W, C] with a kernel per member, [M, h, w, C, O], as one operation."""
  if x.shape[1] == 1:  # all members see the same images
    side_by_side = jnp.moveaxis(w, 0, 3).reshape(*w.shape[1:4], -1)
    y = cpu.convolve(x[:, 0], side_by_side, strides, padding)
    return jnp.moveaxis(y.reshape(*y.shape[:3], len(w), -1), 3, 1)
  return jax.vmap(lambda x, w: cpu.convolve(x, w, strides, padding), (1, 0), 1)(x, w)


class BatchNorm(nn.Module):
  """Batch norm over all axes except the last: running = .9 running + .1 batch, biased variances.

  Statistics are computed in float32. If train is False, the running statistics are used.
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
  """Group norm of each image [H, W, C] (Wu and He, 2018, 1803.08494); no running statistics.

  A group has gcd(C, 16) channels.
  """

  dtype: Any = jnp.float32
  epsilon: float = 1e-5

  @nn.compact
  def __call__(self, x):
    own = math.gcd(x.shape[-1], 16)
    groups = x.reshape((*x.shape[:-1], x.shape[-1] // own, own))
    return _affine(self, x, _standardise(groups, (-4, -3, -1), self.epsilon))


class LayerNorm(nn.Module):
  """Layer norm of each position over its channels (Ba et al., 2016, 1607.06450)."""

  dtype: Any = jnp.float32
  epsilon: float = 1e-6

  @nn.compact
  def __call__(self, x):
    return _affine(self, x, _standardise(x, (-1,), self.epsilon))


def _batch_norm(train, dtype, form):
  return functools.partial(BatchNorm, train, dtype=dtype, form=form)


def _group_norm(train, dtype, form):
  return functools.partial(GroupNorm, dtype=dtype)


def _layer_norm(train, dtype, form):
  return functools.partial(LayerNorm, dtype=dtype)


# (train, dtype, form) -> a norm that lacks its name
NORMS = {'batch': _batch_norm, 'group': _group_norm, 'layer': _layer_norm}


def _standardise(x, axes, epsilon):
  x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
  centred = x - x.mean(axes, keepdims=True)
  return centred * lax.rsqrt((centred**2).mean(axes, keepdims=True) + epsilon)


def _affine(norm, x, standard):
  """Scale and shift standardised values of x per channel, with parameters of the calling norm."""
  per_channel = (1,) * (x.ndim - 1) + (-1,)
  scale = norm.param('scale', nn.initializers.ones, x.shape[-1:]).reshape(per_channel)
  bias = norm.param('bias', nn.initializers.zeros, x.shape[-1:]).reshape(per_channel)
  return (standard.reshape(x.shape) * scale + bias).astype(norm.dtype)


def _normalise(x, mean, variance, scale, bias, epsilon):
  slope = scale * lax.rsqrt(variance + epsilon)
  slope, shift = (v.reshape((1,) * (x.ndim - 1) + (-1,)) for v in (slope, bias - mean * slope))
  return x * slope + shift
