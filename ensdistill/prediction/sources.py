"""Read images, arrays and tables from files, in blocks of bounded memory.

An input is a file, a folder, a pattern such as 'images/**/*.png', or '-' for standard input. Only
regular files are opened, by the readers and limits of `ensdistill.data`.
"""

import functools
import glob
import io
import itertools
import math
import os
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from ensdistill import messages
from ensdistill.data import DataError, files, stored
from ensdistill.data.errors import without_address
from ensdistill.data.images import decode, windows
from ensdistill.data.sources import npz
from ensdistill.prediction import tables
from ensdistill.student.model import Model

ARRAYS = '.npy', '.npz'
TABLES = '.csv', '.tsv', '.parquet', '.pq'
STDIN = '-'
BLOCK_ROWS = 8000  # a multiple of the default batch, so that no block is padded
BLOCK_BYTES = 2**26
_LONGEST_PATH = 2**16
_SIGNATURES = b'\x89PNG', b'\xff\xd8\xff', b'GIF8', b'II*\0', b'MM\0*', b'RIFF'


class Takes(NamedTuple):
  """The inputs that a student accepts."""

  shape: tuple[int, ...]
  columns: Sequence[str] | None
  central: float = 1.0  # share of an image's shorter side that the student sees

  @property
  def images(self) -> bool:
    """Whether inputs are images; otherwise rows of tables."""
    return len(self.shape) == 3

  def rows(self, itemsize: int = 4) -> int:
    """Return the number of rows of a block."""
    return max(1, min(BLOCK_ROWS, BLOCK_BYTES // (itemsize * math.prod(self.shape))))

  def window(self, size: tuple[int, int]) -> tuple[float, float, float, float]:
    """Return the part of an image of this size that the student sees."""
    return windows.central_window(size, self.shape, self.central)


def takes_of(model: Model) -> Takes:
  """Return the inputs that a student accepts."""
  central = model.spec['data_settings'].get('central') or 1.0
  return Takes(tuple(model.spec['shape']), model.columns, float(central))


class Block(NamedTuple):
  """Consecutive rows. Inputs of rows with an error are zeros."""

  names: list[str]
  x: Any  # an array [N, ...], or a list of dicts; None if every row has an error
  errors: dict[int, str]
  decoded: bool = False  # images of files, uint8, which need no scale


class Group(NamedTuple):
  """One file, or consecutive image files; a read error ends the group."""

  name: str
  blocks: Iterator[Block]


def shown(path: str) -> str:
  """Return a path as text that can be written: bytes that are not UTF-8 are escaped."""
  return os.fsencode(path).decode('utf-8', 'backslashreplace')


def one_line(error: BaseException) -> str:
  """Return an error in one line, without the address of a buffer."""
  text = str(error) if isinstance(error, ValueError | OSError | DataError) else repr(error)
  return messages.one_line(without_address(text), most=300)


def groups(inputs: Iterable[str], takes: Takes, stdin: BinaryIO | None = None) -> Iterator[Group]:
  """Yield the inputs file by file, in order; images that follow one another are one group."""
  found = paths(inputs, takes)
  for images, run in itertools.groupby(found, key=_is_image):
    if images and takes.images:
      yield Group('images', _images((path for path, _ in run), takes))
      continue
    for path, problem in run:
      yield Group(shown(path), _failed(path, problem) if problem else _file(path, takes, stdin))


def _is_image(found: tuple[str, str]) -> bool:
  path, problem = found
  return not problem and path.lower().endswith(decode.SUFFIXES)


def paths(inputs: Iterable[str], takes: Takes) -> Iterator[tuple[str, str]]:
  """Yield (path, '') of every file, and (input, reason) of inputs that hold none."""
  for given in inputs:
    if given == STDIN or os.path.isfile(given):
      yield given, ''
    elif os.path.isdir(given):
      suffixes = decode.SUFFIXES if takes.images else ARRAYS + TABLES
      yield from _or_reason(_below(given, suffixes), given)
    elif not os.path.lexists(given) and glob.has_magic(given):
      matches = sorted(glob.iglob(given, recursive=True))
      yield from _or_reason(((path, '') for path in matches if not os.path.isdir(path)), given)
    else:  # missing, a broken link, a pipe or a device: reading it says which
      yield given, ''


def _or_reason(found: Iterator[tuple[str, str]], given: str) -> Iterator[tuple[str, str]]:
  empty = True
  for one in found:
    empty = False
    yield one
  if empty:
    yield given, 'no file was found there that the student takes'


def _below(folder: str, suffixes, above: tuple[str, ...] = ()) -> Iterator[tuple[str, str]]:
  """Yield the files of a folder and of the folders in it, in order; hidden ones are left out.

  A folder that cannot be read is yielded with the reason.
  """
  real = os.path.realpath(folder)
  if real in above:  # a link to a folder that contains it
    return
  try:
    with os.scandir(folder) as entries:
      found = sorted(entries, key=lambda entry: entry.name)
  except OSError as error:
    yield folder, error.strerror or 'the folder cannot be read'
    return
  for entry in found:
    if entry.name.startswith('.'):
      continue
    if os.path.isdir(entry.path):  # false for a link to itself, where entry.is_dir() raises
      yield from _below(entry.path, suffixes, (*above, real))
    elif entry.name.lower().endswith(suffixes):
      yield entry.path, ''


def _failed(path: str, problem: str) -> Iterator[Block]:
  yield Block([shown(path)], None, {0: problem})


def _file(path: str, takes: Takes, stdin) -> Iterator[Block]:
  """Yield the blocks of one file that is not an image, or that the student does not take."""
  kind = path.lower()
  if path == STDIN:
    yield from _stream(stdin, takes)
  elif kind.endswith('.npy'):
    with files.found(path) as file:
      yield from array(file, shown(path), takes, path)
  elif kind.endswith('.npz'):
    yield from _archive(path, takes)
  elif not takes.images and kind.endswith(('.csv', '.tsv')):
    with files.found(path) as file:
      yield from _named(tables.csv_blocks(file, takes.columns, takes.shape[0], takes.rows()), path)
  elif not takes.images and kind.endswith(('.parquet', '.pq')):
    found = tables.parquet_blocks(path, takes.columns, takes.shape[0], takes.rows())
    yield from _named(found, path)
  else:
    with files.found(path):  # a missing file is named first
      pass
    wanted = decode.SUFFIXES + ARRAYS if takes.images else ARRAYS + TABLES
    raise DataError(f'the student takes {"images" if takes.images else "tables"}: give a file of '
                    f'kind {", ".join(wanted)}')  # fmt: skip


def _named(found: Iterator[tables.Rows], path: str) -> Iterator[Block]:
  """Yield the rows of a table, named by their number."""
  start, name = 0, shown(path)
  for rows in found:
    names = [f'{name}[{start + row}]' for row in range(len(rows.x))]
    yield Block(names, rows.x, rows.errors)
    start += len(names)


def _images(paths: Iterator[str], takes: Takes) -> Iterator[Block]:
  """Yield decoded images; those that cannot be decoded are errors of their rows."""

  def decoded(path: str):
    try:
      content = files.read(path, decode.LARGEST_FILE)
      return decode.image(content, takes.shape, takes.window)
    except MemoryError:
      raise
    except Exception as error:  # decoders raise errors of many kinds
      return one_line(error)

  size = min(stored.CHUNK, takes.rows(itemsize=1))
  while chunk := list(itertools.islice(paths, size)):
    x, errors = np.zeros((len(chunk), *takes.shape), np.uint8), {}
    for row, found in enumerate(stored.thread_pool().map(decoded, chunk)):
      if isinstance(found, str):
        errors[row] = found
      else:
        x[row] = found
    yield Block([shown(path) for path in chunk], x, errors, decoded=True)


def _archive(path: str, takes: Takes) -> Iterator[Block]:
  """Yield the rows of an .npz file: of the array x, of x_test, or of the only one."""
  known = npz.array_names(path)
  name = next((name for name in ('x', 'x_test') if name in known), None)
  if name is None and len(known) != 1:
    listing = ', '.join(sorted(known)[:12]) or 'nothing'
    raise DataError(f'the file holds {listing}: store the inputs as x')
  name = name or known.pop()
  with files.found(path) as file, zipfile.ZipFile(file) as archive:
    with archive.open(f'{name}.npy') as entry:
      yield from array(entry, shown(path), takes)


def array(file, name: str, takes: Takes, path: str | None = None) -> Iterator[Block]:
  """Yield the rows of an array in NumPy's format from an open file."""
  shape, fortran, dtype = files.npy_header(file)
  if dtype.hasobject:
    raise DataError('the array holds Python objects: store numbers instead')
  if not dtype.itemsize:
    raise DataError(f'the array holds {dtype} without content: store numbers instead')
  if min(shape, default=0) < 0:
    raise DataError(f'the file is damaged: its array has shape {list(shape)}')
  one, grey = takes.shape, takes.images and takes.shape[2] == 1
  allowed = (one, one[:2]) if grey else (one,)
  if shape in allowed and not dtype.names:
    shape, names = (1, *shape), [name]
  elif shape[1:] in allowed or (dtype.names and len(shape) == 1 and not takes.images):
    names = None
  else:
    raise DataError(f'the array has shape {list(shape)}, the student takes {["N", *one]}')
  rows = takes.rows(dtype.itemsize)
  if fortran and len(shape) > 1 and path:
    whole = np.load(path, mmap_mode='r', allow_pickle=False)
    read = (whole[at : at + rows] for at in range(0, shape[0], rows))
  elif fortran and len(shape) > 1:
    files.check_memory(math.prod(shape) * dtype.itemsize, name, 'store it in C order')
    whole = _exactly(file, math.prod(shape), dtype).reshape(shape[::-1]).T
    read = (whole[at : at + rows] for at in range(0, shape[0], rows))
  else:
    read = _in_order(file, shape, dtype, rows)
  start = 0
  for x in read:
    block = names or [f'{name}[{row}]' for row in range(start, start + len(x))]
    yield Block(block, np.asarray(x).reshape(len(x), *shape[1:]), {})
    start += len(x)


def _in_order(file, shape, dtype, rows: int) -> Iterator[np.ndarray]:
  for start in range(0, shape[0], rows):
    count = min(rows, shape[0] - start)
    yield _exactly(file, count * math.prod(shape[1:]), dtype).reshape(count, *shape[1:])
  if file.read(1):
    raise DataError('the file is damaged: it is longer than its array')


def _exactly(file, count: int, dtype) -> np.ndarray:
  """Return the given number of values; raise DataError if the file is too short."""
  needed, parts = count * dtype.itemsize, bytearray()
  while len(parts) < needed:
    part = file.read(min(needed - len(parts), BLOCK_BYTES))
    if not part:
      raise DataError('the file is damaged: it ends before its array does')
    parts += part
  return np.frombuffer(parts, dtype)


class _Prefixed(io.RawIOBase):
  """A stream whose first bytes have been read."""

  def __init__(self, head: bytes, rest: BinaryIO):
    super().__init__()
    self._head, self._rest = head, rest

  def readable(self):
    return True

  def readinto(self, buffer):
    part = self._head[: len(buffer)] or self._rest.read1(len(buffer))  # type: ignore[attr-defined]
    self._head = self._head[len(buffer) :]
    buffer[: len(part)] = part
    return len(part)


def _begins_image(head: bytes) -> bool:
  """Return whether 8 bytes begin an image; a path may begin with BM or P5, too."""
  bitmap = head.startswith(b'BM') and head.endswith(b'\0\0')  # reserved bytes of the header
  netpbm = head[:2] in (b'P5', b'P6') and head[2:3].isspace()
  return head.startswith(_SIGNATURES) or bitmap or netpbm


def _stream(stdin, takes: Takes) -> Iterator[Block]:
  """Yield the rows of standard input: an array, one image, paths of images, or a csv table."""
  head = stdin.read(8)
  stream = io.BufferedReader(_Prefixed(head, stdin))
  if head.startswith(b'\x93NUMPY'):
    yield from array(stream, STDIN, takes)
  elif not takes.images:
    found = tables.csv_blocks(stream, takes.columns, takes.shape[0], takes.rows())
    yield from _named(found, STDIN)
  elif _begins_image(head):
    content = stream.read(decode.LARGEST_FILE)
    x = decode.image(content, takes.shape, takes.window)[None]
    yield Block([STDIN], x, {}, decoded=True)
  else:
    found = iter(functools.partial(stream.readline, _LONGEST_PATH), b'')
    lines = (os.fsdecode(line.rstrip(b'\r\n')) for line in found)
    yield from _images((line for line in lines if line), takes)


def count(inputs: Sequence[str], takes: Takes) -> int | None:
  """Return the number of rows, approximately; None if it is unknown, as for standard input."""
  total = 0
  for path, problem in paths(inputs, takes):
    own = 1 if problem else _count(path, takes)
    if own is None:
      return None
    total += own
  return total


def _count(path: str, takes: Takes) -> int | None:
  kind = path.lower()
  try:
    if path == STDIN:
      return None
    if kind.endswith('.npy'):
      with files.found(path) as file:
        return (files.npy_header(file)[0] or (1,))[0]
    if kind.endswith('.npz'):
      known = npz.array_names(path)
      name = next(name for name in ('x', 'x_test', *known) if name in known)
      with files.found(path) as file, zipfile.ZipFile(file) as archive:
        with archive.open(f'{name}.npy') as entry:
          return (files.npy_header(entry)[0] or (1,))[0]
    if not takes.images and kind.endswith(TABLES):
      return tables.count(path)
  except Exception:  # reading it gives the reason
    pass
  return 1
