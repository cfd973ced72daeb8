"""Bytes of an image file into an array, as large as it is wanted."""

import io
from typing import Any

import numpy as np

from ensdistill.data.dataset import DataError


def image(encoded: bytes, form, window) -> np.ndarray:
  """uint8 `form` (H, W, C) of what window((width, height)) -> box shows of the upright image."""
  import PIL.Image  # a fifth of a second

  height, width, channels = form
  with PIL.Image.open(io.BytesIO(encoded)) as found:
    size, turn = upright(found)
    box = window(size)
    shrinks = min((box[2] - box[0]) / width, (box[3] - box[1]) / height)
    if shrinks >= 2:  # a JPEG is decoded at 1/2, 1/4 or 1/8, for a fraction of the time
      found.draft(None, tuple(int(side / shrinks) for side in found.size))
    found = _of_bytes(found)
    found = found if turn is None else found.transpose(turn)
    scales = (found.size[0] / size[0], found.size[1] / size[1]) * 2
    box = tuple(edge * scale for edge, scale in zip(box, scales))
    found = found.convert('L' if channels == 1 else 'RGB')  # alpha is dropped
    found = found.resize((width, height), PIL.Image.Resampling.BILINEAR, box)
    return np.asarray(found).reshape(form)


def upright(image) -> tuple[tuple[int, int], Any]:
  """(width, height) of an opened image as it is meant to be seen, and the turn that it needs."""
  import PIL.Image

  if 'exif' not in image.info:  # most files; TIFF files are turned by PIL
    return image.size, None
  try:
    orientation = image.getexif().get(0x0112)
  except Exception:  # damaged, which the image need not be
    return image.size, None
  of = PIL.Image.Transpose
  turns = (of.FLIP_LEFT_RIGHT, of.ROTATE_180, of.FLIP_TOP_BOTTOM)  # of orientation 2, 3, 4
  turns += (of.TRANSPOSE, of.ROTATE_270, of.TRANSVERSE, of.ROTATE_90)  # 5 to 8: on their side
  if orientation not in range(2, 9):
    return image.size, None
  return image.size[::-1] if orientation >= 5 else image.size, turns[orientation - 2]


def _of_bytes(image):
  """Grey images of 16 bits brought to 8, which PIL would clip."""
  import PIL.Image

  if image.mode == 'F':
    raise DataError('its pixels are floats: convert it to 8 or 16 bits')
  if not image.mode.startswith('I'):
    return image
  pixels = np.asarray(image)
  if pixels.min() < 0 or pixels.max() >= 2**16:
    raise DataError(
      f'its pixels are integers from {pixels.min()} to {pixels.max()}: convert it to 8 or 16 bits'
    )
  return PIL.Image.fromarray((pixels >> 8).astype(np.uint8))
