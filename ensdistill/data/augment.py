"""Augmentation of a batch on the device: pure functions of a key and the batch."""

import jax
import jax.numpy as jnp

from ensdistill import names

PADS = ('zero', 'reflect')


def make(
  *,
  crop: int = 0,
  pad: str = 'zero',
  flip: bool = False,
  cutout: int = 0,
  rotate: float = 0.0,
):
  """(key, x_BHWC) -> x_BHWC that shifts, rotates, mirrors and cuts out; None when nothing is asked.

  Args:
    crop: pad by so many pixels on every side and crop the old size at a uniform position.
    pad: what lies outside the image, for crop and rotate: 'zero' or 'reflect' (edge not repeated).
    flip: mirror left and right with probability 1/2.
    cutout: a square of so many pixels a side is set to zero; its centre is uniform over the image,
      so that it may reach over the border (DeVries and Taylor, arXiv 1708.04552).
    rotate: turn by an angle that is uniform within +- so many degrees, bilinear.
  """
  names.lookup('augment.pad', pad, dict.fromkeys(PADS))
  for name, value in (('crop', crop), ('cutout', cutout), ('rotate', rotate)):
    if value < 0:
      raise ValueError(f'augment.{name}={value} must not be negative')
  if not (crop or flip or cutout or rotate):
    return None

  def augment(key, x_BHWC):
    if pad == 'reflect' and crop >= min(x_BHWC.shape[1:3]):
      raise ValueError(
        f'augment.crop={crop} with reflection needs images larger than {crop} pixels'
      )
    keys = jax.random.split(key, 4)
    if crop:
      x_BHWC = shift(x_BHWC, *_offsets(keys[0], x_BHWC.shape[0], crop), pad=pad)
    if rotate:
      angle_B = jax.random.uniform(keys[1], x_BHWC.shape[:1], minval=-rotate, maxval=rotate)
      x_BHWC = turn(x_BHWC, jnp.deg2rad(angle_B), pad=pad)
    if flip:
      mirrored_B = jax.random.bernoulli(keys[2], shape=x_BHWC.shape[:1])
      x_BHWC = jnp.where(mirrored_B[:, None, None, None], x_BHWC[:, :, ::-1], x_BHWC)
    if cutout:
      x_BHWC = cut_out(x_BHWC, *_centres(keys[3], x_BHWC.shape), cutout)
    return x_BHWC

  return augment


def mixing(*, mixup: float = 0.0):
  """(key, batch) -> batch with every example mixed with another one; None when nothing is asked.

  x <- share x + (1 - share) x', and the labels' loss is mixed likewise: `share` [B] and the other's
  labels `y_other` join the batch (mixup: Zhang et al., ICLR 2018). An example's partner is the one
  before it, because batches come in random order.

  Args:
    mixup: share ~ Beta(mixup, mixup), one for all of the batch.
  """
  if mixup < 0:
    raise ValueError(f'augment.mixup={mixup} must not be negative')
  if not mixup:
    return None

  def mix(key, batch):
    share = jax.random.beta(key, mixup, mixup)
    other = {name: jnp.roll(batch[name], 1, axis=0) for name in ('x', 'y')}
    x = share * batch['x'] + (1 - share) * other['x']
    return batch | {'x': x, 'y_other': other['y'], 'share': jnp.full(len(x), share)}

  return mix


def _offsets(key, size, crop):
  """Vertical and horizontal shifts, each uniform over -crop .. crop."""
  return jax.random.randint(key, (2, size), -crop, crop + 1)


def _centres(key, shape):
  rows, columns = jax.random.split(key)
  return (
    jax.random.randint(rows, shape[:1], 0, shape[1]),
    jax.random.randint(columns, shape[:1], 0, shape[2]),
  )


def shift(x_BHWC, down_B, right_B, *, pad: str):
  """Pixel (i, j) of the result is pixel (i + down, j + right) of the image."""
  _, height, width, _ = x_BHWC.shape
  rows_BH = jnp.arange(height)[None] + down_B[:, None]
  columns_BW = jnp.arange(width)[None] + right_B[:, None]
  return _pick(x_BHWC, rows_BH[:, :, None], columns_BW[:, None, :], pad)


def turn(x_BHWC, angle_B, *, pad: str):
  """Turned anticlockwise about its centre by an angle in radians, bilinear."""
  _, height, width, _ = x_BHWC.shape
  y_HW = (jnp.arange(height) - (height - 1) / 2)[:, None]
  x_HW = (jnp.arange(width) - (width - 1) / 2)[None]
  y_1HW, x_1HW = (
    jnp.broadcast_to(y_HW, (1, height, width)),
    jnp.broadcast_to(x_HW, (1, height, width)),
  )
  sine, cosine = jnp.sin(angle_B)[:, None, None], jnp.cos(angle_B)[:, None, None]
  rows_BHW = y_1HW * cosine + x_1HW * sine + (height - 1) / 2
  columns_BHW = x_1HW * cosine - y_1HW * sine + (width - 1) / 2
  top_BHW, left_BHW = jnp.floor(rows_BHW), jnp.floor(columns_BHW)
  result = jnp.zeros_like(x_BHWC)
  for i in (0, 1):
    for j in (0, 1):
      weight_BHW = (1 - jnp.abs(rows_BHW - top_BHW - i)) * (1 - jnp.abs(columns_BHW - left_BHW - j))
      pixel = _pick(x_BHWC, (top_BHW + i).astype(int), (left_BHW + j).astype(int), pad)
      result += weight_BHW[..., None] * pixel
  return result


def cut_out(x_BHWC, row_B, column_B, size: int):
  """The square of `size` pixels a side around each centre set to zero."""
  inside = lambda centre_B, length: (
    (jnp.arange(length)[None] >= centre_B[:, None] - size // 2)
    & (jnp.arange(length)[None] < centre_B[:, None] - size // 2 + size)
  )
  rows_BH, columns_BW = inside(row_B, x_BHWC.shape[1]), inside(column_B, x_BHWC.shape[2])
  hole_BHW = rows_BH[:, :, None] & columns_BW[:, None, :]
  return jnp.where(hole_BHW[..., None], 0, x_BHWC)


def _pick(x_BHWC, rows, columns, pad: str):
  """Pixels at integer coordinates, [B, H, W] once broadcast, also outside the image."""
  size, height, width, _ = x_BHWC.shape
  rows_BHW, columns_BHW = jnp.broadcast_arrays(rows, columns)
  examples_BHW = jnp.broadcast_to(jnp.arange(size)[:, None, None], rows_BHW.shape)
  if pad == 'reflect':
    rows_BHW, columns_BHW = _reflect(rows_BHW, height), _reflect(columns_BHW, width)
    return x_BHWC[examples_BHW, rows_BHW, columns_BHW]
  inside_BHW = (rows_BHW >= 0) & (rows_BHW < height) & (columns_BHW >= 0) & (columns_BHW < width)
  pixels = x_BHWC[examples_BHW, rows_BHW.clip(0, height - 1), columns_BHW.clip(0, width - 1)]
  return jnp.where(inside_BHW[..., None], pixels, 0)


def _reflect(index, length: int):
  """Mirrored at the outermost pixels, which are not repeated, as often as needed."""
  period = max(2 * (length - 1), 1)
  index = index % period
  return jnp.minimum(index, period - index) if length > 1 else index * 0
