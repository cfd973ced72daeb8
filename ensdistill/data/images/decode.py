"""An image file's bytes as an array of the wanted size."""

import functools
import io
import os
import warnings
from typing import Any

import numpy as np

# The only decoders that read files of users. PIL would start Ghostscript for an EPS of any name.
FORMATS = ('BMP', 'GIF', 'JPEG', 'PNG', 'PPM', 'TIFF', 'WEBP')
SUFFIXES = ('.bmp', '.gif', '.jpeg', '.jpg', '.pgm', '.png', '.ppm', '.tif', '.tiff', '.webp')
# Bytes of one encoded image.
LARGEST_FILE = 2**30
_LIMIT = 'ENSDISTILL_MAX_PIXELS'
_SIXTEEN_BITS = ('PNG', 'PPM')  # formats whose 16 bits some versions of PIL hold in 32


class TooManyPixels(ValueError):
  """An image beyond the limit on pixels."""


def largest() -> int:
  """Return the limit on the pixels of one image, which the environment can raise.

  Call it once before images are read, because readers treat every error as a damaged image.
  """
  text = os.environ.get(_LIMIT)
  if not text:
    return 89_478_485  # PIL's own: a quarter of a gigabyte as RGB
  if not (text.isascii() and text.isdigit() and int(text)):
    raise ValueError(
      f'{_LIMIT}={text!r} must be a whole number from 1: set it to a number of pixels, such as '
      '200000000, or unset it'
    )
  return int(text)


def opened(encoded: bytes):
  """Return an image whose header is read, and no pixel; refuse other formats and huge images."""
  import PIL.Image  # importing it takes a fifth of a second

  if os.environ.get(_LIMIT):
    PIL.Image.MAX_IMAGE_PIXELS = max(largest(), PIL.Image.MAX_IMAGE_PIXELS or 0)
  _hide_warnings()
  limit = f'the limit is {largest():,} pixels in all, set {_LIMIT} to raise it'
  try:
    image = PIL.Image.open(io.BytesIO(encoded), formats=FORMATS)
  except (PIL.Image.DecompressionBombError, PIL.Image.DecompressionBombWarning) as error:
    raise TooManyPixels(f'{str(error).partition(" exceeds")[0]}; {limit}') from None
  width, height = image.size
  if width * height > largest():
    image.close()
    raise TooManyPixels(f'{width:,} x {height:,}; {limit}')
  return image


@functools.cache
def _hide_warnings() -> None:
  """Hide PIL's warning of huge images, which are refused."""
  import PIL.Image

  warnings.filterwarnings('ignore', category=PIL.Image.DecompressionBombWarning)


def image(encoded: bytes, form, window) -> np.ndarray:
  """Return uint8 `form` (H, W, C): the part window((width, height)) -> box of the upright image."""
  import PIL.Image

  height, width, channels = form
  with opened(encoded) as file:
    size, turn = upright(file)
    box = window(size)
    factor = min((box[2] - box[0]) / width, (box[3] - box[1]) / height)
    if factor >= 2:  # a JPEG is decoded at 1/2, 1/4 or 1/8 of its size, which is faster
      file.draft(None, (int(file.size[0] / factor), int(file.size[1] / factor)))
    picture = _eight_bit(file)
    picture = picture if turn is None else picture.transpose(turn)
    scales = (picture.size[0] / size[0], picture.size[1] / size[1]) * 2
    box = tuple(edge * scale for edge, scale in zip(box, scales))
    picture = picture.convert('L' if channels == 1 else 'RGB')  # alpha is dropped
    picture = picture.resize((width, height), PIL.Image.Resampling.BILINEAR, box)
    return np.asarray(picture).reshape(form)


def upright(image) -> tuple[tuple[int, int], Any]:
  """Return (width, height) of an opened image when upright, and the transposition it needs."""
  import PIL.Image

  if 'exif' not in image.info:  # most files; PIL turns TIFF files itself
    return image.size, None
  try:
    orientation = image.getexif().get(0x0112)
  except Exception:  # damaged EXIF data; the image itself may be fine
    return image.size, None
  of = PIL.Image.Transpose
  turns = (of.FLIP_LEFT_RIGHT, of.ROTATE_180, of.FLIP_TOP_BOTTOM)  # of orientation 2, 3, 4
  turns += (of.TRANSPOSE, of.ROTATE_270, of.TRANSVERSE, of.ROTATE_90)  # 5 to 8: sideways
  if orientation not in range(2, 9):
    return image.size, None
  return image.size[::-1] if orientation >= 5 else image.size, turns[orientation - 2]


def _eight_bit(image):
  """Return the image with 16-bit grey values scaled to 8 bits, which PIL would clip instead."""
  import PIL.Image

  if image.mode == 'F':
    raise ValueError('the pixels are floats: convert the image to 8 or 16 bits')
  if not image.mode.startswith('I'):
    return image
  if image.mode == 'I' and image.format not in _SIXTEEN_BITS:
    raise ValueError('the pixels are integers of 32 bits: convert the image to 8 or 16 bits')
  pixels = np.asarray(image)
  if pixels.min() < 0 or pixels.max() >= 2**16:
    raise ValueError(
      f'the pixels are integers from {pixels.min()} to {pixels.max()}: convert the image to 8 or '
      '16 bits'
    )
  return PIL.Image.fromarray((pixels >> 8).astype(np.uint8))
