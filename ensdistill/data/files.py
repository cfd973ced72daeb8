"""Files of data: only regular files are opened, and nothing larger than the memory is read."""

import contextlib
import os
import stat
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np

from ensdistill import memory
from ensdistill.data.errors import DataError, MissingData

_KINDS = {
  stat.S_IFDIR: 'a folder',
  stat.S_IFIFO: 'a pipe',
  stat.S_IFSOCK: 'a socket',
  stat.S_IFCHR: 'a device',
  stat.S_IFBLK: 'a device',
}


class NotRegular(DataError):
  """A path that is a folder, a pipe, a socket or a device, or a link to one."""


class TooLarge(DataError):
  """A file of more bytes than its reader takes."""


def opened(path: str | os.PathLike) -> BinaryIO:
  """Return an open regular file; a link to one is followed.

  Opening a pipe waits for a writer, and a device may never end, so both are refused without
  waiting. Raise NotRegular, or the OSError of a file that does not open.
  """
  flags = os.O_RDONLY | getattr(os, 'O_NONBLOCK', 0) | getattr(os, 'O_CLOEXEC', 0)
  before = os.stat(path)  # a device may act when it is opened
  _check_regular(path, before)
  file = open(os.open(path, flags | getattr(os, 'O_BINARY', 0)), 'rb')
  try:
    _check_regular(path, os.fstat(file.fileno()))  # it may have been replaced meanwhile
  except BaseException:
    file.close()
    raise
  return file


@contextlib.contextmanager
def found(path: str | os.PathLike) -> Iterator[BinaryIO]:
  """Open a regular file; one that does not exist is MissingData, other errors name the file."""
  try:
    file = opened(path)
  except FileNotFoundError:
    raise MissingData(f'file {path} does not exist') from None
  except (OSError, ValueError) as error:
    raise DataError(f'{path} cannot be opened: {error}') from error
  with file:
    yield file


def read(path: str | os.PathLike, limit: int = 2**28) -> bytes:
  """Return the content of a regular file of at most `limit` bytes."""
  with opened(path) as file:
    return whole(file, path, limit)


def whole(file: BinaryIO, path, limit: int) -> bytes:
  """Return the rest of an open file of at most `limit` bytes."""
  size = os.fstat(file.fileno()).st_size
  if size <= limit:
    content = file.read(size + 1)
    while len(content) > size and size < limit:  # a file of the system holds more than it states
      size = min(limit, 2 * size + 4096)
      content += file.read(size + 1 - len(content))
    if len(content) <= size:
      return content
    size = len(content)
  raise TooLarge(f'{path} has {memory.text(size)}; the limit is {memory.text(limit)}')


def npy_header(file) -> tuple[tuple[int, ...], bool, np.dtype]:
  """Return shape, whether the order is Fortran's, and type of an array in NumPy's format.

  Reads the header of an open file; raise ValueError for a damaged one.
  """
  version = np.lib.format.read_magic(file)
  known = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
  if version not in known:
    raise ValueError(f'version {version} of the .npy format cannot be read')
  try:
    return known[version](file)
  except (MemoryError, RecursionError):  # of Python's parser
    raise ValueError('the header of the array is nested too deeply') from None


def check_exists_as_file(path: str | os.PathLike) -> None:
  """Raise NotRegular if a path exists, but is not a regular file."""
  with contextlib.suppress(OSError, ValueError):
    _check_regular(path, os.stat(path))


def check_memory(needed: int, what: str, remedy: str) -> None:
  """Refuse to read what does not fit into the memory that is free now."""
  free = memory.available()
  if free is not None and needed > free:
    raise DataError(
      f'{what} takes {memory.text(needed)} of memory, and {memory.text(free)} are free: {remedy}'
    )


def _check_regular(path, status: os.stat_result) -> None:
  if not stat.S_ISREG(status.st_mode):
    kind = _KINDS.get(stat.S_IFMT(status.st_mode), 'no regular file')
    raise NotRegular(f'{path} is {kind}, not a regular file')
