"""Images that change under a run: digests of the files as they were first read."""

import hashlib
import os
import threading

import numpy as np

from ensdistill.data.errors import DataError

_OPENING = threading.Lock()  # of files of digests; threads decode
_BYTES = 8  # of a digest
_UNREAD = bytes(_BYTES)


class Changed(DataError):
  """A file is not what it was when the run began."""


class Digests:
  """A digest of every image, in a file that the processes of a run share and a resumed run reads.

  A digest is noted when an image is first read, and compared whenever it is read again.
  """

  def __init__(self, path: str | os.PathLike, size: int, rows: np.ndarray | None = None):
    self._path, self._size = os.fspath(path), size
    self._rows = np.arange(size) if rows is None else rows
    self._file: int | None = None

  def __getstate__(self):  # every process opens the file itself
    return self.__dict__ | {'_file': None}

  def __del__(self):
    if self._file is not None:
      os.close(self._file)

  def take(self, rows) -> 'Digests':
    """Return the digests of some of the images."""
    return Digests(self._path, self._size, self._rows[rows])

  def make(self) -> None:
    """Make the file unless it is there; it takes 8 bytes an image."""
    if os.path.exists(self._path) and os.path.getsize(self._path) == self._size * _BYTES:
      return
    os.makedirs(os.path.dirname(self._path), exist_ok=True)
    with open(self._path, 'wb') as file:
      file.write(bytes(self._size * _BYTES))

  def check(self, row: int, encoded: bytes) -> None:
    """Raise Changed if an image differs from what was read before."""
    digest = hashlib.blake2b(encoded, digest_size=_BYTES).digest()
    digest = digest if digest != _UNREAD else b'\x01' * _BYTES
    place = int(self._rows[row]) * _BYTES
    try:
      with _OPENING:
        if self._file is None:
          self._file = os.open(self._path, os.O_RDWR)
      earlier = os.pread(self._file, _BYTES, place)
      if earlier == _UNREAD:
        os.pwrite(self._file, digest, place)
    except OSError as error:
      raise DataError(f'{self._path}: {error.strerror}') from error
    if earlier not in (_UNREAD, digest):
      raise Changed(
        'the image has changed since this run first read it: restore it, or remove the folder of '
        'the run to start again with the data as they are'
      )


def difference(path: str, size: int, time: int) -> str | None:
  """Return how a file differs from its size and time stamp (ns) of before; None if it does not."""
  try:
    status = os.stat(path)
  except OSError as error:
    return f'{path}: {error.strerror}'
  if status.st_size != size:
    return f'{path} has {status.st_size:,} bytes, and had {size:,} before'
  if status.st_mtime_ns != time:
    return f'{path} was written since'
  return None
