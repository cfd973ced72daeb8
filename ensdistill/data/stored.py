"""Images that stay in their files until they are asked for: like an array, and never whole."""

import concurrent.futures
import contextlib
import dataclasses
import errno
import functools
import hashlib
import io
import json
import os
from typing import Any

import numpy as np

from ensdistill import names, safe
from ensdistill.data import images
from ensdistill.data.dataset import DataError, Split

_REMEDY = (
  ": repair or remove it, or set data.unreadable='skip' (python -m ensdistill.data NAME "
  '--unreadable=skip tries all images beforehand)'
)
_AGAIN = ', and was readable before: remove {} to try all images again'
# Files that are not there or lead nowhere; any other error of the system may pass.
_GONE = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP)
_TRIES = 10  # for a random window that fits into the image
_CHUNK = 1000  # images that are decoded together
Box = tuple[float, float, float, float]  # left, upper, right, lower


class Unreadable(DataError):
  """A file that is no image, or a damaged one."""


class Files:
  """Encoded images, each a file of its own below a folder."""

  def __init__(self, root: str, names: np.ndarray, sizes: np.ndarray):
    self.folder, self._names, self._sizes = root, names, sizes  # bytes 'S' are a quarter of text

  def __len__(self):
    return len(self._names)

  def take(self, rows) -> 'Files':
    return Files(self.folder, self._names[rows], self._sizes[rows])

  def where(self, row: int) -> str:
    return os.path.join(self.folder, os.fsdecode(self._names[row]))

  def read(self, row: int) -> bytes:
    with open(self.where(row), 'rb') as file:
      return file.read()

  def stamp(self) -> bytes:
    """A hash of the names and the sizes of the files, not of their content."""
    digest = hashlib.sha256(b'\0'.join(self._names.tolist()))
    digest.update(self._sizes.astype(np.int64))
    return digest.digest()


@dataclasses.dataclass(frozen=True, eq=False)
class Stored:
  """uint8 images [N, H, W, C] like an array of them; a slice of it, or some rows, are decoded.

  An image is seen upright, as its EXIF mark says, through its largest central window of the wanted
  proportions, times `central`, resized to the wanted size; without one (`exact`) all images have
  to be of that size.
  """

  records: Any  # encoded images: len, take(rows), where(row), read(row), stamp(), folder
  form: tuple[int, int, int]  # H, W, C
  central: float = 1.0
  exact: bool = False
  skipped: tuple[str, ...] = ()  # why images that were here are not
  tried: str = ''  # the file that holds what was found when all were tried

  ndim = 4
  dtype = np.dtype(np.uint8)

  @property
  def shape(self) -> tuple[int, ...]:
    return len(self.records), *self.form

  @property
  def nbytes(self) -> int:
    """Of the whole array, had it been decoded."""
    return int(np.prod(self.shape, dtype=np.int64))

  def __len__(self):
    return len(self.records)

  def take(self, rows) -> 'Stored':
    """Some of the images, still stored."""
    return dataclasses.replace(self, records=self.records.take(rows))

  def __getitem__(self, rows) -> np.ndarray:
    """Images, decoded by as many threads as there are cores."""
    chosen = np.arange(len(self))[rows]
    return self.read(chosen) if chosen.ndim else self.decode(int(chosen))

  def read(self, rows, windows=None, *, threads: bool = True) -> np.ndarray:
    """The images of these rows, each through its own window unless that is the central one."""
    found = np.empty((len(rows), *self.form), np.uint8)
    each = [rows.tolist()] if windows is None else [rows.tolist(), windows]
    for place, image in enumerate((_threads().map if threads else map)(self.decode, *each)):
      found[place] = image
    return found

  def __array__(self, dtype=None, copy=None) -> np.ndarray:
    """All images, decoded."""
    del copy
    from tqdm import tqdm

    whole = np.empty(self.shape, np.uint8)
    for start in tqdm(range(0, len(self), _CHUNK), 'decoding', leave=False, disable=None):
      whole[start : start + _CHUNK] = self[start : start + _CHUNK]
    return whole if dtype is None else whole.astype(dtype)

  def decode(self, row: int, window=None) -> np.ndarray:
    """One image [H, W, C], through window((width, height)) -> box instead of its central one."""
    try:
      encoded = self.records.read(row)
      return _decode(encoded, self.form, window or self._central_window)
    except DataError as error:
      raise DataError(f'{self.records.where(row)}: {error}') from None
    except MemoryError:
      raise
    except Exception as error:  # decoders raise whatever they stumble over
      if getattr(error, 'errno', None) not in (None, *_GONE):
        raise DataError(f'{self.records.where(row)}: {error.strerror}') from None
      why = str(error).partition(' <')[0]  # the address of a buffer
      where = self.records.where(row)
      remedy = _AGAIN.format(self.tried) if self.tried else _REMEDY
      raise Unreadable(f'{where} cannot be read as an image ({why}){remedy}') from None

  def _central_window(self, size) -> Box:
    if self.exact and size != self.form[1::-1]:
      raise DataError(
        f'an image of {size[0]} x {size[1]} pixels, others have {self.form[1]} x {self.form[0]}: '
        'set data.size'
      )
    return central_window(size, self.form, self.central)

  def stamp(self) -> bytes:
    """What the array is, without decoding it."""
    how = f'{self.form} {self.central}'.encode()
    return hashlib.sha256(self.records.stamp() + how).digest()


def check(size: int, central: float, unreadable: str) -> None:
  """Refuses settings that no images can be read with."""
  if size < 0:
    raise ValueError(f'data.size={size} must not be negative; 0 keeps the size of the images')
  if not 0 < central <= 1:
    raise ValueError(f'data.central={central} is a share of the shorter side, in (0, 1]')
  names.lookup('data.unreadable', unreadable, dict.fromkeys(('stop', 'skip')))


def readable(split: Split, kept: str | os.PathLike) -> Split:
  """The examples whose images can be decoded: every one is tried, once for all.

  The file `kept`, where it can be written, holds the reasons of those that cannot, which are tried
  again each time: they may have been repaired.
  """
  images, y = split
  reasons = _reasons(images, kept)
  rows = np.setdiff1d(np.arange(len(images)), [*reasons])
  if not len(rows):
    raise DataError(next(iter(reasons.values())))
  left = images.take(rows)
  left = dataclasses.replace(left, skipped=tuple(reasons.values()), tried=os.fspath(kept))
  return Split(left, None if y is None else y[rows])


def try_all(split: Split, part: str) -> None:
  """Stops at images of a part (valid, test) that cannot be decoded; tries them once for all."""
  images = split.x
  if isinstance(images, Stored) and not images.tried:
    reasons = _reasons(images, os.path.join(images.records.folder, f'.unreadable-{part}-stop.json'))
    if reasons:
      raise Unreadable(next(iter(reasons.values())) + _REMEDY)


def _reasons(images: Stored, kept) -> dict[int, str]:
  """Why images cannot be read, by row; a second time those alone are tried that could not be."""
  stamp, known = images.records.stamp().hex() + ' of one size' * images.exact, None
  with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
    with open(kept) as file:
      found = json.load(file)
    if found['stamp'] == stamp:
      known = {int(row): reason for row, reason in found['unreadable'].items()}
  reasons = _tried(images, range(len(images)) if known is None else sorted(known))
  if reasons != known:
    with contextlib.suppress(OSError):
      safe.write_atomic(kept, json.dumps({'stamp': stamp, 'unreadable': reasons}, indent=2))
  return reasons


def _tried(images: Stored, rows) -> dict[int, str]:
  """Why images of these rows cannot be read."""
  from tqdm import tqdm

  def reason(row):
    try:
      images.decode(row)
    except Unreadable as error:
      return str(error).removesuffix(_REMEDY)

  reasons = {}
  for start in tqdm(range(0, len(rows), _CHUNK), 'trying', leave=False, disable=None):
    chunk = rows[start : start + _CHUNK]
    reasons |= {row: why for row, why in zip(chunk, _threads().map(reason, chunk)) if why}
  return reasons


def fit(x, shape: tuple[int, ...]):
  """Images, of an array or in files, in another (H, W, C)."""
  if isinstance(x, Stored):
    return dataclasses.replace(x, form=tuple(shape), exact=False)
  return images.fit(x, shape)


def crops(*, crop_area: float = 0.0) -> float:
  """The setting of random crops.

  Args:
    crop_area: a training image shows a random part of its file, at least so much of its area, in
      proportions of 3/4 to 4/3, resized to the size of all (see random_window); 0: the middle.
  """
  if not 0 <= crop_area <= 1:
    raise ValueError(f'augment.crop_area={crop_area} is a share of the area, in [0, 1]; 0: no crop')
  return crop_area


def central_window(size: tuple[int, int], form, share: float = 1.0) -> Box:
  """The middle of an image of this width and height, in the proportions of `form` (H, W, C)."""
  scale = share * min(size[0] / form[1], size[1] / form[0])
  width, height = form[1] * scale, form[0] * scale
  left, upper = (size[0] - width) / 2, (size[1] - height) / 2
  return left, upper, left + width, upper + height


def random_window(size: tuple[int, int], form, area: float, uniform_4T) -> Box:
  """A random part of an image, of `area` of it to all of it, in proportions of 3/4 to 4/3.

  The random resized crop that ImageNet networks are trained with (Szegedy et al., arXiv 1409.4842).
  uniform_4T, U(0, 1), holds area, proportions and both places of every try; where none fits into
  the image its central window is taken.
  """
  for share, proportion, across, down in np.transpose(uniform_4T):
    pixels = size[0] * size[1] * (area + share * (1 - area))
    ratio = form[1] / form[0] * (3 / 4) ** (1 - 2 * proportion)
    width, height = round((pixels * ratio) ** 0.5), round((pixels / ratio) ** 0.5)
    if 0 < width <= size[0] and 0 < height <= size[1]:
      left, upper = int(across * (size[0] - width + 1)), int(down * (size[1] - height + 1))
      return left, upper, left + width, upper + height
  return central_window(size, form)


def random_windows(form, area: float, count: int, seed) -> list:
  """A window for each of `count` images of a batch; the same seed draws the same."""
  uniform = np.random.RandomState(seed).random_sample((count, 4, _TRIES))
  return [functools.partial(random_window, form=form, area=area, uniform_4T=u) for u in uniform]


def _decode(encoded: bytes, form, window) -> np.ndarray:
  import PIL.Image  # a fifth of a second

  height, width, channels = form
  with PIL.Image.open(io.BytesIO(encoded)) as image:
    size, turn = upright(image)
    box = window(size)
    shrinks = min((box[2] - box[0]) / width, (box[3] - box[1]) / height)
    if shrinks >= 2:  # a JPEG is decoded at 1/2, 1/4 or 1/8, for a fraction of the time
      image.draft(None, tuple(int(side / shrinks) for side in image.size))
    image = _of_bytes(image)
    image = image if turn is None else image.transpose(turn)
    scales = (image.size[0] / size[0], image.size[1] / size[1]) * 2
    box = tuple(edge * scale for edge, scale in zip(box, scales))
    image = image.convert('L' if channels == 1 else 'RGB')  # alpha is dropped
    image = image.resize((width, height), PIL.Image.Resampling.BILINEAR, box)
    return np.asarray(image).reshape(form)


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


def cores() -> int:
  """The cores that this process may use."""
  return len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1


@functools.cache
def _threads() -> concurrent.futures.ThreadPoolExecutor:
  """Decoding releases Python's lock, so that threads share the cores."""
  return concurrent.futures.ThreadPoolExecutor(cores())
