"""Augmentation on the device: pure functions of a key and a batch."""

import jax
import jax.numpy as jnp

from ensdistill import names

PADS = ('zero', 'reflect')
ROTATION = 2  # version of rotated images: 2 rotates before the crop


def make(
  *,
  crop: int = 0,
  pad: str = 'zero',
  flip: bool = False,
  cutout: int = 0,
  rotate: float = 0.0,
):
  """Return augment(key, x_BHWC) -> x_BHWC, or None if all settings are off.

  Args:
    crop: pad by this many pixels on every side and crop the old size at a uniform position.
    pad: the pixels that crop pads with: 'zero' or 'reflect' (edge not repeated).
    flip: mirror left and right with probability 1/2.
    cutout: set a square with sides of this many pixels to zero. Its centre is uniform over the
      image, so the square may cross the border (DeVries and Taylor, arXiv 1708.04552).
    rotate: rotate by a uniform angle of at most this many degrees either way, bicubic. The padded
      image is rotated, before the crop; the area outside is zero (EnD²'s authors).
  """
  names.check('augment.pad', pad, PADS)
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
      down_B, right_B = _offsets(keys[0], x_BHWC.shape[0], crop)
    if rotate:
      angle_B = jax.random.uniform(keys[1], x_BHWC.shape[:1], minval=-rotate, maxval=rotate)
      at_B2 = jnp.stack([down_B, right_B], -1) if crop else None
      x_BHWC = turn_and_crop(x_BHWC, jnp.deg2rad(angle_B), at_B2, crop=crop, pad=pad)
    elif crop:
      x_BHWC = shift(x_BHWC, down_B, right_B, pad=pad)
    if flip:
      mirrored_B = jax.random.bernoulli(keys[2], shape=x_BHWC.shape[:1])
      x_BHWC = jnp.where(mirrored_B[:, None, None, None], x_BHWC[:, :, ::-1], x_BHWC)
    if cutout:
      row_B, column_B = _centres(keys[3], x_BHWC.shape)
      x_BHWC = cut_out(x_BHWC, row_B, column_B, cutout)
    return x_BHWC

  return augment


def mixing(*, mixup: float = 0.0):
  """Return mix(key, batch) -> batch, which mixes every example with another; None if off.

  x <- share x + (1 - share) x' (mixup: Zhang et al., ICLR 2018). The losses of both labels are
  mixed in the same way, so the batch gets `share` [B] and the other example's labels `y_other`. The
  other example is the previous one in the batch, whose order is random.

  Args:
    mixup: share ~ Beta(mixup, mixup), one for the whole batch; 0: off.
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
  """Draw vertical and horizontal shifts, each uniform over -crop .. crop."""
  return jax.random.randint(key, (2, size), -crop, crop + 1)


def _centres(key, shape):
  """Draw a pixel of every image, uniform."""
  rows, columns = jax.random.split(key)
  return (
    jax.random.randint(rows, shape[:1], 0, shape[1]),
    jax.random.randint(columns, shape[:1], 0, shape[2]),
  )


def shift(x_BHWC, down_B, right_B, *, pad: str):
  """Shift images: pixel (i, j) becomes pixel (i + down, j + right) of the input."""
  _, height, width, _ = x_BHWC.shape
  rows_BH = jnp.arange(height)[None] + down_B[:, None]
  columns_BW = jnp.arange(width)[None] + right_B[:, None]
  return _pick(x_BHWC, rows_BH[:, :, None], columns_BW[:, None, :], pad)


def turn(x_BHWC, angle_B):
  """Rotate images anticlockwise about the centre by angles in radians, bilinear, zero outside."""
  rows_BHW, columns_BHW = _turned(x_BHWC.shape, angle_B)
  top_BHW, left_BHW = jnp.floor(rows_BHW), jnp.floor(columns_BHW)
  result = jnp.zeros_like(x_BHWC)
  for i in (0, 1):
    for j in (0, 1):
      weight_BHW = (1 - jnp.abs(rows_BHW - top_BHW - i)) * (1 - jnp.abs(columns_BHW - left_BHW - j))
      pixel = _pick(x_BHWC, (top_BHW + i).astype(int), (left_BHW + j).astype(int), 'zero')
      result += weight_BHW[..., None] * pixel
  return result


def turn_and_crop(x_BHWC, angle_B, at_B2=None, *, crop: int, pad: str):
  """Pad images by `crop` pixels, rotate them (bicubic), and crop the old size; clip to [0, 1].

  As Pillow's `rotate` does: anticlockwise about the centre by angles in radians; what lies outside
  of the padded image is zero; near its edge the outermost pixels are repeated; and the bicubic
  kernel (Keys, 1981) has a = -1. Only the pixels of the crop are computed.

  at_B2: position of the crop, from -crop to crop along both axes; None: the centre.
  """
  _, height, width, _ = x_BHWC.shape
  rows_BHW, columns_BHW = _turned(x_BHWC.shape, angle_B, at_B2)

  def taps(at_BHW, length: int):
    """Return whether positions lie in the padded image, and the four pixels and weights of each."""
    inside_BHW = (at_BHW >= -crop - 0.5) & (at_BHW < length + crop - 0.5)
    first_BHW = jnp.floor(at_BHW)
    index = [(first_BHW.astype(int) + i).clip(-crop, length + crop - 1) for i in range(-1, 3)]
    return inside_BHW, index, _cubic(at_BHW - first_BHW)

  inside_rows_BHW, rows, row_weights = taps(rows_BHW, height)
  inside_columns_BHW, columns, column_weights = taps(columns_BHW, width)
  result = jnp.zeros_like(x_BHWC)
  for i in range(4):
    for j in range(4):
      weight_BHW = row_weights[i] * column_weights[j]
      result += weight_BHW[..., None] * _pick(x_BHWC, rows[i], columns[j], pad)
  inside_BHW = inside_rows_BHW & inside_columns_BHW
  return jnp.where(inside_BHW[..., None], result.clip(0, 1), 0)


def _turned(shape, angle_B, at_B2=None):
  """Return the positions (rows, columns), each [B, H, W], that a rotation brings to each pixel.

  at_B2: shift of the pixels before the rotation.
  """
  _, height, width, _ = shape
  y_1HW = (jnp.arange(height) - (height - 1) / 2)[None, :, None]
  x_1HW = (jnp.arange(width) - (width - 1) / 2)[None, None]
  if at_B2 is not None:
    y_1HW, x_1HW = (axis + at_B2[:, i, None, None] for i, axis in enumerate((y_1HW, x_1HW)))
  sine, cosine = jnp.sin(angle_B)[:, None, None], jnp.cos(angle_B)[:, None, None]
  rows_BHW = y_1HW * cosine + x_1HW * sine + (height - 1) / 2
  columns_BHW = x_1HW * cosine - y_1HW * sine + (width - 1) / 2
  return rows_BHW, columns_BHW


def _cubic(t):
  """Return the weights of the pixels at -1, 0, 1, 2 for a position t in [0, 1); Keys, a = -1."""
  u = 1 - t
  return -t * u**2, 1 - 2 * t**2 + t**3, 1 - 2 * u**2 + u**3, -u * t**2


def cut_out(x_BHWC, row_B, column_B, size: int):
  """Set the square with sides of `size` pixels around each centre to zero."""

  def inside(centre_B, length: int):
    low_B1, index_1L = centre_B[:, None] - size // 2, jnp.arange(length)[None]
    return (index_1L >= low_B1) & (index_1L < low_B1 + size)

  rows_BH, columns_BW = inside(row_B, x_BHWC.shape[1]), inside(column_B, x_BHWC.shape[2])
  hole_BHW = rows_BH[:, :, None] & columns_BW[:, None, :]
  return jnp.where(hole_BHW[..., None], 0, x_BHWC)


def _pick(x_BHWC, rows, columns, pad: str):
  """Return the pixels at integer coordinates, broadcast to [B, H, W], also outside the image."""
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
  """Mirror an index at the outermost pixels, which are not repeated, as often as needed."""
  period = max(2 * (length - 1), 1)
  index = index % period
  return jnp.minimum(index, period - index) if length > 1 else index * 0
