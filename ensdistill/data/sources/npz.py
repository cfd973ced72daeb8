"""Data sets in NumPy's .npz files: x_train, y_train, x_test, y_test, or x, y with many splits."""

import contextlib
import functools
import lzma
import math
import os
import struct
import tokenize
import zipfile
import zlib

import numpy as np

from ensdistill import memory
from ensdistill.data import checks, files
from ensdistill.data.dataset import Examples, Source
from ensdistill.data.errors import DataError, MissingData

_PARTS = ('train', 'valid', 'test')
# A compressed array is refused if it is large and unpacks to very many times its size, which
# arrays of data do not.
_LARGE, _RATIO = 2**28, 200
_DAMAGE = (
  zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, tokenize.TokenError, SyntaxError,
  EOFError, OSError, ValueError, KeyError, TypeError, IndexError, RuntimeError, OverflowError,
)  # fmt: skip


def npz_file(request, path: str) -> Source:
  """Return the data set in a file; an array is read only when its part is.

  The file holds x_train, y_train, x_test, y_test, optionally x_valid and y_valid: uint8 images
  [N, H, W, C], float images in [0, 1], or tables [N, D]; integer y are labels, float y regression
  targets. Or it holds x, y and test_mask: one row of packed bits per split (numpy.packbits).
  Optional `classes` and `columns` are the names of classes and of a table's columns.
  """
  path = find_file(path, request.dir)
  arrays = array_names(path)
  classes, columns = (
    _names(path, key) if key in arrays else None for key in ('classes', 'columns')
  )
  splits = 1
  if 'test_mask' in arrays and not {'x', 'y'} <= arrays:
    raise DataError(f'{path} has test_mask without x or y: store x, y and test_mask')
  if 'test_mask' in arrays:
    mask = _mask(path)
    splits = len(mask)
    parts = {
      part: functools.partial(_masked_part, path, mask, request.split, part, columns)
      for part in ('train', 'test')
    }
  else:
    parts = {
      part: functools.partial(_part, path, part, f'y_{part}' in arrays)
      for part in _PARTS
      if f'x_{part}' in arrays
    }
  if not parts:
    raise DataError(
      f'{path} holds {", ".join(sorted(arrays)) or "nothing"}: store x_train, y_train, x_test and '
      'y_test, or x, y and test_mask'
    )
  return Source(request.name, parts, path, columns, classes, splits=splits)


def find_file(path: str, folder: str | None) -> str:
  """Return the path of a file, as given or in the data folder."""
  path = os.path.expanduser(path)
  for candidate in (path, os.path.join(os.path.expanduser(folder or ''), path)):
    files.check_exists_as_file(candidate)
    if os.path.isfile(candidate):
      return candidate
  inside = f', nor in the folder {folder}' if folder else ''
  raise MissingData(f'file {path} does not exist{inside}: check data.name and data.dir')


def array_names(path) -> set[str]:
  """Return the names of a file's arrays."""
  with _archive(path) as archive:
    names = [name.removesuffix('.npy') for name in archive.namelist()]
  twice = [name for name in names if names.count(name) > 1] if len(names) < 1000 else []
  if twice:
    raise DataError(f'{path} holds {twice[0]} twice: write the file again')
  return set(names)


def read_array(path, name: str) -> np.ndarray:
  """Return one array; its bytes are checked against the file's checksum.

  Its size is that of its header, which must be the size of the archive's entry and fit into memory.
  Both are compared before the array is allocated.
  """
  place = f'{path}: {name}'
  with _archive(path, place) as archive:
    entry = archive.getinfo(f'{name}.npy')
    with archive.open(entry) as file:
      size = _declared(file, place)
      start = file.tell()
      whole = os.path.getsize(path)
      if entry.file_size != start + size or entry.compress_size > whole:
        raise ValueError(f'{entry.file_size - start:,} bytes instead of {size:,}')
    _check_size(entry, size, place)
    with archive.open(entry) as file:
      return np.lib.format.read_array(file, allow_pickle=False)


def _declared(file, place: str) -> int:
  """Return the bytes of an array by its header, which this reads."""
  shape, _, dtype = files.npy_header(file)
  if dtype.hasobject:
    raise DataError(f'{place} holds Python objects: store numbers instead')
  return math.prod(shape) * dtype.itemsize


def _check_size(entry: zipfile.ZipInfo, size: int, place: str) -> None:
  packed = max(entry.compress_size, 1)
  if size > _LARGE and size > _RATIO * packed:
    raise DataError(
      f'{place} unpacks {memory.text(packed)} to {memory.text(size)}, more than {_RATIO} times: '
      'write the file again with numpy.savez, uncompressed, if these are data'
    )
  files.check_memory(size, place, 'store fewer examples, or images in a folder')


@contextlib.contextmanager
def _archive(path, place: str = ''):
  """Open a file as an archive; raise the errors of a damaged one as a DataError with the place."""
  place = place or path
  with files.found(path) as file:
    try:
      with zipfile.ZipFile(file) as archive:
        yield archive
    except _DAMAGE as error:
      raise DataError(
        f'{place} cannot be read: the file is damaged or not an .npz file ({error})'
      ) from error


def _names(path: str, key: str) -> tuple[str, ...]:
  found = read_array(path, key)
  if found.ndim != 1 or found.dtype.kind not in 'USiufb':
    raise DataError(
      f'{path}: {key} is {found.dtype} of shape {found.shape}: store names as text [N]'
    )
  return tuple(
    value.decode(errors='replace') if isinstance(value, bytes) else str(value)
    for value in found.tolist()
  )


def _part(path: str, part: str, labelled: bool) -> Examples:
  return Examples(
    read_array(path, f'x_{part}'), read_array(path, f'y_{part}') if labelled else None
  )


def _mask(path: str) -> np.ndarray:
  """Return which examples are for testing, bool [splits, N]."""
  packed, y = read_array(path, 'test_mask'), read_array(path, 'y')
  size = len(y) if y.ndim else 0
  if packed.dtype != np.uint8 or packed.ndim != 2 or packed.shape[1] != -(-size // 8):
    raise DataError(
      f'{path}: test_mask is {packed.dtype} of shape {packed.shape}: store uint8 [splits, '
      f'{-(-size // 8)}], numpy.packbits(mask, axis=1), for {size} examples'
    )
  return np.unpackbits(packed, axis=1)[:, :size].astype(bool)


def _masked_part(path: str, mask: np.ndarray, split: int, part: str, columns) -> Examples:
  x, y = read_array(path, 'x'), read_array(path, 'y')
  if not x.ndim or not y.ndim:
    raise DataError(f'{path}: x has shape {x.shape}, y {y.shape}: store one row per example')
  if len(x) != len(y):
    raise DataError(f'{path}: x has {len(x)} examples, y has {len(y)}')
  # Checked before the rows are chosen, so that a message has the index in the file.
  checks.checked_inputs(x, f'{path}: x', columns, varies=False)
  checks.checked_targets(y, f'{path}: y', varies=False)
  rows = mask[split] if part == 'test' else ~mask[split]
  return Examples(x[rows], y[rows])
