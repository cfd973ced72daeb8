"""Data sets in NumPy's .npz files: x_train, y_train, x_test, y_test, or x, y with many splits."""

import contextlib
import functools
import os
import zipfile
import zlib

import numpy as np

from ensdistill.data import checks
from ensdistill.data.dataset import Examples, Source
from ensdistill.data.errors import DataError, MissingData

_PARTS = ('train', 'valid', 'test')


def npz_file(request, path: str) -> Source:
  """Return the data set in a file; an array is read only when its part is.

  The file holds x_train, y_train, x_test, y_test, optionally x_valid and y_valid: uint8 images
  [N, H, W, C], float images in [0, 1], or tables [N, D]; integer y are labels, float y regression
  targets. Or it holds x, y and test_mask: one row of packed bits per split (numpy.packbits).
  Optional `classes` and `columns` are the names of classes and of a table's columns.
  """
  path = find_file(path, request.dir)
  found = array_names(path)
  classes, columns = (_names(path, key) if key in found else None for key in ('classes', 'columns'))
  splits = 1
  if 'test_mask' in found:
    mask = _mask(path)
    splits = len(mask)
    parts = {
      part: functools.partial(_masked_part, path, mask, request.split, part, columns)
      for part in ('train', 'test')
    }
  else:
    parts = {
      part: functools.partial(_part, path, part, f'y_{part}' in found)
      for part in _PARTS
      if f'x_{part}' in found
    }
  if not parts:
    raise DataError(
      f'{path} holds {", ".join(sorted(found)) or "nothing"}: store x_train, y_train, x_test and '
      'y_test, or x, y and test_mask'
    )
  return Source(request.name, parts, path, columns, classes, splits=splits)


def find_file(path: str, folder: str | None) -> str:
  """Return the path of a file, as given or in the data folder."""
  path = os.path.expanduser(path)
  for candidate in (path, os.path.join(os.path.expanduser(folder or ''), path)):
    if os.path.isfile(candidate):
      return candidate
  inside = f', nor in the folder {folder}' if folder else ''
  raise MissingData(f'file {path} does not exist{inside}: check data.name and data.dir')


def array_names(path) -> set[str]:
  """Return the names of a file's arrays."""
  with _damage_at(path):
    with zipfile.ZipFile(path) as archive:
      return {name.removesuffix('.npy') for name in archive.namelist()}


def read_array(path, name: str) -> np.ndarray:
  """Return one array; its bytes are checked against the file's checksum."""
  with _damage_at(f'{path}: {name}'):
    with np.load(path, allow_pickle=False) as file:
      return file[name]


@contextlib.contextmanager
def _damage_at(place):
  """Raise the errors of a damaged file as a DataError that names the place."""
  try:
    yield
  except (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, KeyError) as error:
    if isinstance(error, ValueError) and 'allow_pickle' in str(error):
      raise DataError(f'{place} holds Python objects: store numbers instead') from error
    raise DataError(
      f'{place} cannot be read: the file is damaged or not an .npz file ({error})'
    ) from error


def _names(path: str, key: str) -> tuple[str, ...]:
  return tuple(str(value) for value in read_array(path, key))


def _part(path: str, part: str, labelled: bool) -> Examples:
  return Examples(
    read_array(path, f'x_{part}'), read_array(path, f'y_{part}') if labelled else None
  )


def _mask(path: str) -> np.ndarray:
  """Return which examples are for testing, bool [splits, N]."""
  packed, size = read_array(path, 'test_mask'), len(read_array(path, 'y'))
  if packed.dtype != np.uint8 or packed.ndim != 2 or packed.shape[1] != -(-size // 8):
    raise DataError(
      f'{path}: test_mask is {packed.dtype} of shape {packed.shape}: store uint8 [splits, '
      f'{-(-size // 8)}], numpy.packbits(mask, axis=1), for {size} examples'
    )
  return np.unpackbits(packed, axis=1)[:, :size].astype(bool)


def _masked_part(path: str, mask: np.ndarray, split: int, part: str, columns) -> Examples:
  x, y = read_array(path, 'x'), read_array(path, 'y')
  if len(x) != len(y):
    raise DataError(f'{path}: x has {len(x)} examples, y has {len(y)}')
  # Checked before the rows are chosen, so that a message has the index in the file.
  checks.checked_inputs(x, f'{path}: x', columns, varies=False)
  checks.checked_targets(y, f'{path}: y', varies=False)
  rows = mask[split] if part == 'test' else ~mask[split]
  return Examples(x[rows], y[rows])
