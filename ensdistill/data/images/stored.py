"""Images that stay in their files until they are asked for: like an array, and never whole."""

import concurrent.futures
import contextlib
import dataclasses
import errno
import functools
import hashlib
import json
import os
from typing import Any

import numpy as np

from ensdistill import names
from ensdistill.data.dataset import DataError, Split
from ensdistill.data.images import decode, windows
from ensdistill.data.images import sizes as images
from ensdistill.storage import safe

_REMEDY = (
  ": repair or remove it, or set data.unreadable='skip' (python -m ensdistill.data NAME "
  '--unreadable=skip tries all images beforehand)'
)
_AGAIN = ', and was readable before: remove {} to try all images again'
# Files that are not there or lead nowhere; any other error of the system may pass.
_GONE = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP)
_CHUNK = 1000  # images that are decoded together


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

  def read(self, rows, through=None, *, threads: bool = True) -> np.ndarray:
    """The images of these rows, each through its own window unless that is the central one."""
    found = np.empty((len(rows), *self.form), np.uint8)
    each = [rows.tolist()] if through is None else [rows.tolist(), through]
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
      return decode.image(encoded, self.form, window or self._central_window)
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

  def _central_window(self, size) -> windows.Box:
    if self.exact and size != self.form[1::-1]:
      raise DataError(
        f'an image of {size[0]} x {size[1]} pixels, others have {self.form[1]} x {self.form[0]}: '
        'set data.size'
      )
    return windows.central_window(size, self.form, self.central)

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


def cores() -> int:
  """The cores that this process may use."""
  return len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1


@functools.cache
def _threads() -> concurrent.futures.ThreadPoolExecutor:
  """Decoding releases Python's lock, so that threads share the cores."""
  return concurrent.futures.ThreadPoolExecutor(cores())
