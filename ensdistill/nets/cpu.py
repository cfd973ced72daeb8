"""Convolution and batch norm in forms that XLA's CPU back end trains about twice as fast.

The forms follow from these facts about the back end:
- A weight gradient is fast over slices of about 16 examples. The slices are transposed, and XLA
  recomputes the operand of a transposition for every element, unless the operand enters a loop.
- As a convolution, a weight gradient has an output of 3 x 3 positions for a 3 x 3 kernel. oneDNN
  needs more positions in a row to keep its registers busy: eight channels side by side give 24.
- A convolution inside a loop is slow unless its dimension numbers are NHWC, HWIO, NHWC.
- A vmapped convolution becomes a grouped one, which is even slower.
- A reduction over the leading axes becomes a slow reduce-window; sums of slices do not.
- A matrix product transposes operands that have more than two axes.

These forms have first derivatives in reverse mode only. For other derivatives, build the network
with form='plain'.
"""

import contextlib
import contextvars
import functools
import math

import jax
import jax.numpy as jnp
from jax import lax
from jax.custom_batching import custom_vmap

SLICE = 16  # examples per slice of a weight gradient
FOLDED = 8  # channels that a weight gradient folds into the columns of an image
UNROLLED = 8  # up to this number of members, convolutions are unrolled; above, they run in a loop

convolve = functools.partial(lax.conv_general_dilated, dimension_numbers=('NHWC', 'HWIO', 'NHWC'))


def unrolled(f):
  """Return f with a vmap rule that calls f once per member."""
  f = custom_vmap(f)

  @f.def_vmap
  def _rule(size, batched, *args):
    calls = [f(*[a[i] if b else a for a, b in zip(args, batched)]) for i in range(size)]
    return jnp.stack(calls), True

  return f


_for_onednn = contextvars.ContextVar('for_onednn', default=False)


@contextlib.contextmanager
def for_onednn(on: bool = True):
  """Trace convolutions in the forms that are fast with oneDNN; with Eigen these are slow."""
  token = _for_onednn.set(on)
  try:
    yield
  finally:
    _for_onednn.reset(token)


def _directions(sizes, kernel, strides, padding):
  """Return the convolution and its two gradients, for images of these sizes (height, width)."""
  return _directions_of(sizes, kernel, strides, padding, _for_onednn.get())


@functools.lru_cache(None)
def _directions_of(sizes, kernel, strides, padding, onednn):
  low = tuple(pads[0] for pads in padding)
  out = tuple(
    (size + sum(pads) - k) // stride + 1
    for size, k, stride, pads in zip(sizes, kernel, strides, padding)
  )
  # Rows by which the last window extends beyond the image (negative if it ends before the edge).
  reach = tuple(
    k + stride * (n - 1) - size - a
    for size, k, stride, n, a in zip(sizes, kernel, strides, out, low)
  )

  def forward(x, w):
    return convolve(x, w, strides, padding)

  def input_gradient(g, w):
    pads = [(k - 1 - a, k - 1 - b) for k, a, b in zip(kernel, low, reach)]
    return convolve(g, w[::-1, ::-1].transpose(0, 1, 3, 2), (1, 1), pads, lhs_dilation=strides)

  def weight_gradients(x, g):
    """Return the gradients [M, h, w, C, O] for x [B, M, H, W, C] and g [B, M, H, W, O]."""
    folded = math.gcd(x.shape[4], FOLDED) if onednn else 1

    def part(x, g):
      g = g.transpose(1, 2, 0, 3)
      if not onednn:
        return convolve(x.transpose(3, 1, 2, 0), g, (1, 1), list(zip(low, reach)), None, strides)
      # Columns times `folded` channels become the columns of images [channels / folded, ...].
      crop = [(0, min(reach[0], 0), 0), (low[1], reach[1], 0)]
      x = lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), *crop, (0, 0, 0)])
      examples, height, width, channels = x.shape
      x = x.reshape(examples, height, width, -1, folded).transpose(3, 1, 2, 4, 0)
      x = x.reshape(channels // folded, height, width * folded, examples)
      pads = [(low[0], max(reach[0], 0)), (0, 0)]
      return convolve(x, g, (1, 1), pads, None, (strides[0], strides[1] * folded))

    def add_slice(i, total):
      member, start = i % members, i // members * size

      def take(a):
        shape = (size, 1, *a.shape[2:])
        return lax.dynamic_slice(a, (start, member, 0, 0, 0), shape)[:, 0]

      own = lax.dynamic_index_in_dim(total, member, keepdims=False)
      return lax.dynamic_update_index_in_dim(total, own + part(take(x), take(g)), member, 0)

    batch, members = x.shape[:2]
    size = min(SLICE, max(1, batch // 2))
    whole, rest = divmod(batch, size)
    precise = jnp.promote_types(x.dtype, jnp.float32)  # bfloat16 would round away many small terms
    rows, columns = kernel
    groups, features = x.shape[4] // folded, g.shape[4]
    zeros = jnp.zeros((members, groups, rows, columns * folded, features), precise)
    total = lax.fori_loop(0, whole * members, add_slice, zeros)
    if rest:
      total += jnp.stack([part(x[-rest:, m], g[-rest:, m]) for m in range(members)])
    total = total.reshape(members, groups, rows, columns, folded, features)
    total = total.astype(x.dtype).transpose(0, 2, 3, 1, 4, 5)
    return total.reshape(members, rows, columns, x.shape[4], features)

  return unrolled(forward), unrolled(input_gradient), unrolled(weight_gradients)


def _is_matmul(w, padding):
  return w.shape[:2] == (1, 1) and not any(map(any, padding))


def _matmul(x, w, strides):
  x = x[:, :: strides[0], :: strides[1]]
  return (x.reshape(-1, x.shape[-1]) @ w[0, 0]).reshape(*x.shape[:-1], -1)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def conv(x, w, strides, padding):
  """Convolve NHWC with HWIO; strides are (h, w), padding is ((low, high), (low, high))."""
  if _is_matmul(w, padding):
    return _matmul(x, w, strides)
  return _directions(x.shape[1:3], w.shape[:2], strides, padding)[0](x, w)


def _conv_forward(x, w, strides, padding):
  return conv(x, w, strides, padding), (x, w)


def _conv_backward(strides, padding, saved, g):
  x, w = saved
  if _is_matmul(w, padding):
    return jax.vjp(functools.partial(_matmul, strides=strides), x, w)[1](g)
  _, input_gradient, weight_gradients = _directions(x.shape[1:3], w.shape[:2], strides, padding)
  return input_gradient(g, w), weight_gradients(x[:, None], g[:, None])[0]


conv.defvjp(_conv_forward, _conv_backward)


def member_conv(x, w, strides, padding):
  """Convolve x [B, M or 1, H, W, C] with a kernel per member, [M, h, w, C, O]."""
  members, (channels, features) = w.shape[0], w.shape[3:]
  assert x.shape[1] in (1, members), (x.shape, w.shape)
  if x.shape[1] == 1:  # all members see the same images: one convolution with all their features
    side_by_side = w.transpose(1, 2, 3, 0, 4).reshape(*w.shape[1:3], channels, members * features)
    y = conv(x[:, 0], side_by_side, strides, padding)
    return jnp.moveaxis(y.reshape(*y.shape[:3], members, features), 3, 1)
  if members > UNROLLED:
    each = lax.map(lambda xw: conv(*xw, strides, padding), (jnp.moveaxis(x, 1, 0), w))
    return jnp.moveaxis(each, 0, 1)
  if _is_matmul(w[0], padding):
    return _one_by_one(x, w, strides, padding)
  return _each(x, w, strides, padding)


def _of_members(x):
  """Return a list of x [B, M, ...] without its member axis."""
  return [part[:, 0] for part in lax.split(x, (1,) * x.shape[1], axis=1)]


def _one_by_one(x, w, strides, padding):
  each = [conv(*xw, strides, padding) for xw in zip(_of_members(x), w)]
  return jnp.stack(each, axis=1)


# The weight gradients of all members share one loop: fewer kernels to compile than a loop each.
_each = jax.custom_vjp(_one_by_one, nondiff_argnums=(2, 3))


def _each_forward(x, w, strides, padding):
  return _one_by_one(x, w, strides, padding), (x, w)


def _each_backward(strides, padding, saved, g):
  x, w = saved
  _, input_gradient, weight_gradients = _directions(x.shape[2:4], w.shape[1:3], strides, padding)
  d_x = [input_gradient(*gw) for gw in zip(_of_members(g), w)]
  return jnp.stack(d_x, axis=1), weight_gradients(x, g)


_each.defvjp(_each_forward, _each_backward)


@functools.partial(jax.jit, static_argnames='ways')  # traced once for each shape
def channel_sums(*arrays, ways=16):
  """Return the sum of the arrays' product over all axes except the last, as sums of slices."""
  size, channels = arrays[0].size, arrays[0].shape[-1]
  slices = ways
  while size % (slices * channels):
    slices //= 2
  rows = [a.reshape(slices, -1) for a in arrays]
  y = sum(functools.reduce(jnp.multiply, [row[i] for row in rows]) for i in range(slices))
  while y.size >= ways * channels * 64 and y.size % (ways * channels) == 0:
    y = y.reshape(ways, -1)
    y = sum(y[i] for i in range(ways))
  return y.reshape(-1, channels).sum(0)


def _per_channel(v, x):
  return v.reshape((1,) * (x.ndim - 1) + (-1,))


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def batch_norm(x, scale, bias, epsilon):
  """Return (y, (mean, variance)): x normalised by its own statistics, which have no gradient."""
  return _batch_norm_forward(x, scale, bias, epsilon)[0]


def _batch_norm_forward(x, scale, bias, epsilon):
  n = x.size // x.shape[-1]
  mean = channel_sums(x) / n
  variance = jnp.maximum(channel_sums(x, x) / n - mean**2, 0)
  inverse = lax.rsqrt(variance + epsilon)
  slope = inverse * scale
  y = x * _per_channel(slope, x) + _per_channel(bias - mean * slope, x)
  return (y, (mean, variance)), (x, mean, inverse, slope)


def _batch_norm_backward(_, saved, cotangents):
  g, _ = cotangents
  x, mean, inverse, slope = saved
  n = x.size // x.shape[-1]
  sum_g, sum_gx = channel_sums(g), channel_sums(g, x)
  d_scale = (sum_gx - mean * sum_g) * inverse
  bend = -slope * inverse * d_scale / n
  shift = slope * sum_g / n + mean * bend
  d_x = g * _per_channel(slope, x) + x * _per_channel(bend, x) - _per_channel(shift, x)
  return d_x, d_scale, sum_g


batch_norm.defvjp(_batch_norm_forward, _batch_norm_backward)
