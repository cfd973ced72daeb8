"""Images that stay in their files: the interface of an array, decoded when rows are read.

The inputs of a data set are either a NumPy array or `Stored` images. The functions below take both;
no other module tests which of the two it has.
"""

import concurrent.futures
import dataclasses
import errno
import functools
import hashlib
import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ensdistill import names, processes, stopping
from ensdistill.data import files
from ensdistill.data.errors import DataError, without_address
from ensdistill.data.images import decode, sizes, watched, windows

_REMEDY = (
  ": repair or remove it, or set data.unreadable='skip' (`ensdistill data NAME "
  '--unreadable=skip` lists all such images)'
)
_TRY_AGAIN = ', but was readable before: remove {} to try all images again'
# The file does not exist or is a broken link. Other errors of the system may be temporary.
_GONE = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP)
CHUNK = 1000  # images that are decoded together
LARGEST_SIDE = 8192  # pixels of the images that a network sees


class Unreadable(DataError):
  """A file that is not an image, or is damaged; `reason` is the message without the remedy."""

  def __init__(self, reason: str, remedy: str = _REMEDY):
    super().__init__(reason, remedy)
    self.reason = reason

  def __str__(self):
    return ''.join(self.args)


class Files:
  """Encoded images, one file each, below a folder."""

  def __init__(self, folder: str, names: np.ndarray, sizes: np.ndarray, times: np.ndarray):
    self.folder, self._names = folder, names  # bytes 'S': a quarter of text
    self._sizes, self._times = sizes, times  # in bytes, and when they were written, in ns

  def __len__(self):
    return len(self._names)

  def take(self, rows) -> 'Files':
    return Files(self.folder, self._names[rows], self._sizes[rows], self._times[rows])

  def where(self, row: int) -> str:
    return os.path.join(self.folder, os.fsdecode(self._names[row]))

  def read(self, row: int) -> bytes:
    return files.read(self.where(row), decode.LARGEST_FILE)

  def change(self, ended: Callable[[], bool]) -> str | None:
    """Return how a file differs from what it was when the folder was listed, the first one.

    ended: whether nobody waits for the answer any more.
    """
    for row, (size, time) in enumerate(zip(self._sizes.tolist(), self._times.tolist())):
      if ended():
        break
      found = watched.difference(self.where(row), size, time)
      if found and size:  # a broken link has no size
        return found
    return None

  def stamp(self) -> bytes:
    """Return a hash of the names and sizes of the files, not of their content."""
    digest = hashlib.sha256(b'\0'.join(self._names.tolist()))
    digest.update(self._sizes.astype(np.int64))
    return digest.digest()


@dataclasses.dataclass(frozen=True, eq=False)
class Stored:
  """uint8 images [N, H, W, C] in files; indexing decodes the images of a slice or of some rows.

  An image is turned upright by its EXIF orientation. Its largest central window of the wanted
  proportions, times `central`, is resized to the wanted size. If `exact`, every image must have
  that size already.
  """

  records: Any  # the encoded images: Files, or Records of a prepared set
  form: tuple[int, ...]  # H, W, C
  central: float = 1.0
  exact: bool = False
  skipped: tuple[str, ...] = ()  # why images of the set are not among these
  tried: str = ''  # the file with the result of trying all images, if all were tried
  digests: watched.Digests | None = None  # of what was read, where a run watches its data

  ndim = 4
  dtype = np.dtype(np.uint8)

  @property
  def shape(self) -> tuple[int, ...]:
    return len(self.records), *self.form

  @property
  def nbytes(self) -> int:
    """The size of the decoded array."""
    return int(np.prod(self.shape, dtype=np.int64))

  def __len__(self):
    return len(self.records)

  def take(self, rows) -> 'Stored':
    """Return some of the images, still in their files."""
    digests = self.digests and self.digests.take(rows)
    return dataclasses.replace(self, records=self.records.take(rows), digests=digests)

  def __getitem__(self, rows) -> np.ndarray:
    """Decode images with one thread per core."""
    chosen = np.arange(len(self))[rows]
    return self.read(chosen) if chosen.ndim else self.decode(int(chosen))

  def read(self, rows, window_functions: Sequence[Callable] | None = None, *, threads: bool = True):
    """Decode the images of these rows, each through its own window or else the central one."""
    images = np.empty((len(rows), *self.form), np.uint8)
    each = [rows.tolist()] if window_functions is None else [rows.tolist(), window_functions]
    mapped = thread_pool().map if threads else map
    for place, image in enumerate(mapped(self.decode, *each)):
      images[place] = image
    return images

  def __array__(self, dtype=None, copy=None) -> np.ndarray:
    """Decode all images."""
    del copy
    from tqdm import tqdm

    where, remedy = self.records.folder, "set data.stream='on', or set data.size to fewer pixels"
    files.check_memory(self.nbytes, f'{where}: {len(self)} decoded images', remedy)
    whole = np.empty(self.shape, np.uint8)
    for start in tqdm(range(0, len(self), CHUNK), 'decoding', leave=False, disable=None):
      stopping.check()
      whole[start : start + CHUNK] = self[start : start + CHUNK]
    return whole if dtype is None else whole.astype(dtype)

  def decode(self, row: int, window: Callable | None = None) -> np.ndarray:
    """Decode one image [H, W, C]; `window((width, height)) -> box` replaces the central window."""
    where = self.records.where(row)
    try:
      encoded = self.records.read(row)
      if self.digests:
        self.digests.check(row, encoded)
      return decode.image(encoded, self.form, window or self._central_window)
    except (files.NotRegular, files.TooLarge) as error:
      raise Unreadable(str(error), self._remedy()) from None
    except DataError as error:
      raise type(error)(f'{where}: {error}') from None
    except MemoryError:
      raise
    except Exception as error:  # decoders raise errors of many kinds
      if isinstance(error, OSError) and error.errno not in (None, *_GONE):
        raise DataError(f'{where}: {error.strerror}') from None
      why = without_address(str(error))
      raise Unreadable(f'{where} cannot be read as an image ({why})', self._remedy()) from None

  def _remedy(self) -> str:
    return _TRY_AGAIN.format(self.tried) if self.tried else _REMEDY

  def check_unchanged(self, ended: Callable[[], bool]) -> None:
    """Raise Changed if sizes or time stamps of the files are not those of before.

    ended: whether nobody waits for the answer any more.
    """
    change = self.records.change(ended)
    if change:
      raise watched.Changed(
        f'the data changed under the run: {change}. Restore the file, or remove the folder of the '
        'run to start again with the data as they are'
      )

  def _central_window(self, size) -> windows.Box:
    if self.exact and size != self.form[1::-1]:
      raise DataError(
        f'the image has {size[0]} x {size[1]} pixels, others have {self.form[1]} x {self.form[0]}: '
        'set data.size'
      )
    return windows.central_window(size, self.form, self.central)

  def stamp(self) -> bytes:
    """Return a hash that identifies the images, without decoding them."""
    how = f'{self.form} {self.central}'.encode()
    return hashlib.sha256(self.records.stamp() + how).digest()


def check_settings(unreadable: str, size: int = 0, central: float = 1.0) -> None:
  """Refuse settings of images in files that are out of range, and a wrong limit on pixels."""
  decode.largest()
  if size < 0:
    raise ValueError(f'data.size={size} must not be negative; 0 keeps the size of the images')
  if size > LARGEST_SIDE:
    raise ValueError(f'data.size={size} is a side in pixels: set it to 0 to {LARGEST_SIDE}')
  if not 0 < central <= 1:
    raise ValueError(
      f"data.central={central} must lie in (0, 1]: it is a share of an image's shorter side"
    )
  names.check('data.unreadable', unreadable, ('stop', 'skip'))


def check_form(height: int, width: int) -> None:
  """Refuse sizes of stored images that no network takes."""
  if max(height, width) > LARGEST_SIDE:
    raise DataError(
      f'the first image has {width} x {height} pixels, and its sides are the inputs: set data.size '
      f'to 1 to {LARGEST_SIDE}'
    )


def in_files(x) -> bool:
  """Return whether inputs are images in files, not an array."""
  return isinstance(x, Stored)


def take(x, rows):
  """Return some rows of inputs; images in files stay there."""
  return x.take(rows) if isinstance(x, Stored) else x[rows]


def fit(x, shape: tuple[int, ...]):
  """Return images in another shape (H, W, C); images in files stay there."""
  if isinstance(x, Stored):
    return dataclasses.replace(x, form=tuple(shape), exact=False)
  return sizes.fit(x, shape)


def content(x):
  """Return the bytes that identify inputs: those of an array, or a hash of images in files."""
  return x.stamp() if isinstance(x, Stored) else np.ascontiguousarray(x).data


def skipped(inputs) -> tuple[str, ...]:
  """Return why images of these inputs were skipped, each reason once."""
  reasons = [reason for x in inputs if isinstance(x, Stored) for reason in x.skipped]
  return tuple(dict.fromkeys(reasons))


@functools.cache
def thread_pool() -> concurrent.futures.ThreadPoolExecutor:
  """Return the threads that decode; decoding releases Python's lock."""
  return concurrent.futures.ThreadPoolExecutor(processes.cores())
