"""Data sets in NumPy's .npz files: x_train, y_train, x_test, y_test, or x, y with many splits."""

import os
import zipfile
import zlib

import numpy as np

from ensdistill.data import checks
from ensdistill.data.dataset import DataError, MissingData, Source, Split

_PARTS = ('train', 'valid', 'test')


def source(request, path: str) -> Source:
  """A file's data set: only the arrays that are asked for are read.

  x_train, y_train, x_test, y_test, optionally x_valid and y_valid: uint8 images [N, H, W, C], float
  images in [0, 1], or tables [N, D]; integer y are labels, float y regression targets.
  Or x, y and test_mask: packed bits, one row a split (numpy.packbits), of which `split` is taken.
  Optionally `classes` and `columns`, the names of classes and of a table's columns.
  """
  path = locate(path, request.dir)
  found = members(path)
  text = lambda name: tuple(str(v) for v in array(path, name)) if name in found else None
  common = dict(classes=text('classes'), columns=text('columns'))
  if 'test_mask' in found:
    mask = _mask(path)
    read = lambda part: _masked(path, mask, request.split, part, common['columns'])
    parts = {part: (lambda part=part: read(part)) for part in ('train', 'test')}
    return Source(request.name, parts, splits=len(mask), **common)
  parts = {
    part: (lambda part=part: _plain(path, part, found)) for part in _PARTS if f'x_{part}' in found
  }
  if not parts:
    raise DataError(
      f'{path}: neither x_train, y_train, x_test, y_test nor x, y, test_mask; it holds '
      f'{", ".join(sorted(found)) or "nothing"}'
    )
  return Source(request.name, parts, **common)


def locate(path: str, folder: str | None) -> str:
  """The file as it was named, or in the data folder."""
  path = os.path.expanduser(path)
  for candidate in (path, os.path.join(os.path.expanduser(folder or ''), path)):
    if os.path.isfile(candidate):
      return candidate
  raise MissingData(f'{path}: there is no such file' + (f', nor in {folder}' if folder else ''))


def members(path: str) -> set[str]:
  """The names of a file's arrays."""
  with _damage(path):
    with zipfile.ZipFile(path) as archive:
      return {name.removesuffix('.npy') for name in archive.namelist()}


def array(path: str, name: str) -> np.ndarray:
  """One array, its bytes checked against the file's own checksum."""
  with _damage(path, f'{path}: {name}'):
    with np.load(path, allow_pickle=False) as file:
      return file[name]


class _damage:
  """Whatever a damaged file raises, as a DataError that names the place."""

  def __init__(self, path, place=None):
    self.path, self.place = path, place or path

  def __enter__(self):
    return self

  def __exit__(self, kind, error, trace):
    if isinstance(error, ValueError) and 'allow_pickle' in str(error):
      raise DataError(f'{self.place} holds Python objects, which are not read: store numbers')
    if isinstance(error, (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, KeyError)):
      raise DataError(f'{self.place} cannot be read, the file is damaged or no .npz: {error}')


def _plain(path, part, found) -> Split:
  y = f'y_{part}'
  return Split(array(path, f'x_{part}'), array(path, y) if y in found else None)


def _mask(path) -> np.ndarray:
  packed, size = array(path, 'test_mask'), len(array(path, 'y'))
  if packed.dtype != np.uint8 or packed.ndim != 2 or packed.shape[1] != -(-size // 8):
    raise DataError(
      f'{path}: test_mask has {packed.dtype} of shape {packed.shape}; for {size} examples uint8 '
      f'[splits, {-(-size // 8)}] is meant, numpy.packbits(mask, axis=1)'
    )
  return np.unpackbits(packed, axis=1)[:, :size].astype(bool)


def _masked(path, mask, split, part, columns) -> Split:
  x, y = array(path, 'x'), array(path, 'y')
  if len(x) != len(y):
    raise DataError(f'{path}: x has {len(x)} examples, y has {len(y)}')
  # Before the rows are cut, so that a message has the index in the file.
  checks.inputs(x, f'{path}: x', columns, varies=False)
  checks.targets(y, f'{path}: y', varies=False)
  rows = mask[split] if part == 'test' else ~mask[split]
  return Split(x[rows], y[rows])
