"""Checks of inputs and labels: an error names the file, the array and the index."""

import numpy as np

from ensdistill.data.dataset import Examples, Split
from ensdistill.data.errors import DataError
from ensdistill.data.images import stored

# A column's largest number and the inverse of its spread are at most _LARGEST, so that float32
# holds their squares. A spread below _LEAST_SPREAD times the largest number is lost in rounding.
_LARGEST, _LEAST_SPREAD = 1e18, 1e-5
_LARGEST_LABEL = 1_000_000


def checked(examples: Examples, where: str, part: str, columns=None) -> Examples:
  """Return a part with checked numbers in the types of Examples and Split.

  Messages contain `where` and `part` (train, valid, test), and the names of a table's columns.
  """
  x, y = examples
  for name, array in (('x', x), ('y', y)):
    if isinstance(array, np.ma.MaskedArray):
      raise DataError(
        f'{where}: {name}_{part} is a masked array: fill in its values, or remove these examples'
      )
  if not stored.in_files(x):  # images in files are checked when they are decoded
    x = checked_inputs(np.asarray(x), f'{where}: x_{part}', columns, varies=part == 'train')
  if y is None:
    return Examples(x, None)
  y = checked_targets(np.asarray(y), f'{where}: y_{part}', varies=part == 'train')
  if len(x) != len(y):
    raise DataError(f'{where}: x_{part} has {len(x)} examples, y_{part} has {len(y)}')
  return Examples(x, y)


def checked_inputs(x: np.ndarray, name: str, columns=None, *, varies: bool = True) -> np.ndarray:
  """Return images as uint8 or as float32 in [0, 1], tables as float32."""
  if not len(x.shape) or not x.size:
    raise DataError(f'{name} is empty (shape {x.shape})')
  if x.dtype.kind not in 'uif':
    hint = ': store 0 and 1 as uint8' if x.dtype.kind == 'b' else ''
    raise DataError(f'{name} holds {x.dtype}, not numbers{hint}')
  if x.ndim == 2:
    return checked_table(x, name, columns, varies=varies)
  if x.ndim == 3:
    x = x[..., None]
  if x.ndim != 4:
    raise DataError(f'{name} has shape {x.shape}: store images [N, H, W, C] or tables [N, D]')
  if x.shape[3] > 4:
    raise DataError(f'{name} has shape {x.shape}: the last axis must hold 1 to 4 channels')
  if x.dtype == np.uint8:
    return x
  if x.dtype.kind != 'f':
    raise DataError(
      f'{name} holds {x.dtype}: store images as uint8 (0 to 255) or as floats in [0, 1]'
    )
  _check_finite(x, name)
  wrong = (x < 0) | (x > 1)
  if wrong.any():
    index, value = _first(x, wrong)
    raise DataError(
      f'{name}[{index}] holds {value:g}: scale float images to [0, 1], or store them as uint8'
    )
  return x.astype(np.float32)


def checked_table(x: np.ndarray, name: str, columns=None, *, varies: bool = True) -> np.ndarray:
  """Return a table as float32; every column must have a scale that float32 holds."""
  columns = columns or [str(i) for i in range(x.shape[1])]
  if len(columns) != x.shape[1]:
    raise DataError(f'{name} has {x.shape[1]} columns, but {len(columns)} names of columns')
  if x.dtype.kind == 'f':
    _check_finite(x, name, columns)
  x_ND = x if x.dtype.kind == 'f' else x.astype(np.float64)
  largest_D = np.abs(x_ND).max(0).astype(np.float64)
  spread_D = x_ND.max(0).astype(np.float64) - x_ND.min(0)
  rounding = 8 * np.finfo(x_ND.dtype).eps
  for column, largest, spread in zip(columns, largest_D, spread_D):
    if largest > _LARGEST or (varies and 0 < spread < 1 / _LARGEST):
      scale = f'reaches {largest:.3g}' if largest > _LARGEST else f'varies by only {spread:.3g}'
      raise DataError(f'{name}: column {column} {scale}: rescale it, float32 must hold its square')
    if varies and rounding * largest < spread < _LEAST_SPREAD * largest:
      raise DataError(
        f'{name}: column {column} varies by {spread:.3g} around {largest:.3g}, which float32 '
        'cannot resolve: subtract a constant from it'
      )
  return x_ND.astype(np.float32)


def checked_targets(y: np.ndarray, name: str, *, varies: bool = True) -> np.ndarray:
  """Return integers as labels, int32 [N], and floats as regression targets, float32 [N, D]."""
  if not len(y.shape) or not y.size:
    raise DataError(f'{name} is empty (shape {y.shape})')
  if y.dtype.kind in 'uib':
    if y.ndim == 2 and y.shape[1] == 1:
      y = y[:, 0]
    if y.ndim != 1:
      raise DataError(f'{name} has shape {y.shape}: store one integer per example, [N]')
    wrong = (y < 0) | (y > _LARGEST_LABEL)
    if wrong.any():
      index, value = _first(y, wrong)
      raise DataError(
        f'{name}[{index}] is {value}: labels count from 0; store y as floats for regression'
      )
    return y.astype(np.int32)
  if y.dtype.kind != 'f' or y.ndim > 2:
    raise DataError(
      f'{name} holds {y.dtype} of shape {y.shape}: store labels as integers [N], regression '
      'targets as floats [N] or [N, D]'
    )
  y = y[:, None] if y.ndim == 1 else y
  checked_ND = checked_table(y, name, varies=varies)
  if varies:
    check_targets_vary(checked_ND, name)
  return checked_ND


def check_targets_vary(y: np.ndarray, name: str) -> None:
  """Refuse regression targets with a constant column."""
  still = constant_columns(y)
  if still.any():
    rows = f'in its {len(y)} rows' if len(y) > 1 else 'in its only row'
    raise DataError(
      f'{name}: column {int(np.argmax(still))} is constant {rows}: choose a target that varies'
    )


def constant_columns(x: np.ndarray) -> np.ndarray:
  """Return which columns of a table, or channels of images, are constant up to rounding."""
  axes = tuple(range(x.ndim - 1))
  low, high = x.min(axes).astype(np.float64), x.max(axes).astype(np.float64)
  return high - low <= 1e-6 * np.maximum(np.abs(low), np.abs(high))


def class_count(parts: dict[str, Split], source, skipped=()) -> int:
  """Return the number of classes; refuse labels beyond it, and classes without training examples.

  The source may state the number, or the names of the classes. Messages contain these names and
  the first reason for skipped images.
  """
  train, stated = parts['train'].y, len(source.classes or ()) or source.class_count
  highest = int(train.max())
  counts = np.bincount(train, minlength=stated or 0)
  count = stated or len(counts)
  _check_class_names(source)
  for part, split in parts.items():
    wrong = split.y >= count
    if wrong.any():
      index, value = _first(split.y, wrong)
      why = f'there are {count} classes' if stated else f'the largest label in y_train is {highest}'
      raise DataError(f'{source.where}: y_{part}[{index}] is {value}, but {why}')
  if (counts == 0).any():
    label = int(np.argmax(counts == 0))
    title = f'{label} of {count}' + (f', {source.classes[label]!r},' if source.classes else '')
    last = f'y_train[{int(np.argmax(train == highest))}] is {highest}'
    why = f'{last}; labels must count from 0 without a gap'
    if not source.classes:
      why += '; store y as floats for regression'
    if skipped:
      why = f'{len(skipped)} image(s) skipped, the first: {skipped[0]}'
    raise DataError(f'{source.where}: class {title} has no training example ({why})')
  if count == 1:
    title = repr(source.classes[0]) if source.classes else '0'
    raise DataError(
      f'{source.where} holds a single class ({title}): classification needs two, add examples of '
      'another class'
    )
  return count


def _check_class_names(source) -> None:
  """Refuse two classes of one name."""
  numbers: dict[str, int] = {}
  for number, name in enumerate(source.classes or ()):
    if numbers.setdefault(name, number) != number:
      raise DataError(
        f'{source.where}: classes {numbers[name]} and {number} are both called {name!r}: rename one'
      )


def check_every_class_is_left(parts: dict[str, Split], where: str, classes: int) -> None:
  """Refuse a validation part that takes the last training example of a class."""
  counts = np.bincount(parts['train'].y, minlength=classes)
  if (counts == 0).any():
    label = int(np.argmax(counts == 0))
    taken = int((parts['valid'].y == label).sum())
    raise DataError(
      f'{where}: validation takes every training example of class {label} ({taken}): lower '
      'data.valid, or add a validation split to the data'
    )


def _check_finite(x: np.ndarray, name: str, columns=None) -> None:
  wrong = ~np.isfinite(x)
  if wrong.any():
    index, value = _first(x, wrong)
    place = f', column {columns[np.nonzero(wrong)[1][0]]},' if columns else ''
    raise DataError(f'{name}[{index}]{place} holds {value}: store finite numbers')


def _first(x: np.ndarray, wrong: np.ndarray):
  """Return the index of the first wrong example, and the wrong number."""
  place = np.unravel_index(int(np.argmax(wrong)), wrong.shape)
  return int(place[0]), x[place]
