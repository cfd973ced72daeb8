"""Inputs and labels as they should be, or an error that names the place and the index."""

import numpy as np

from ensdistill.data.dataset import DataError, Split
from ensdistill.data.images import stored

# Between these a column's numbers and their squares fit float32; below the second, relative to its
# largest number, float32 rounds its variation away.
_LARGEST, _LEAST_SPREAD = 1e18, 1e-5


def checked(split: Split, where: str, part: str, columns=None) -> Split:
  """A part of a data set in its stored form (see Split), every number of it checked.

  `where` and `part` (train, valid, test) name it in messages; a table's columns have their names.
  """
  x = split.x
  if not isinstance(x, stored.Stored):  # which decodes what its form says
    x = inputs(np.asarray(x), f'{where}: x_{part}', columns, varies=part == 'train')
  if split.y is None:
    return Split(x, None)
  y = targets(np.asarray(split.y), f'{where}: y_{part}', varies=part == 'train')
  if len(x) != len(y):
    raise DataError(f'{where}: x_{part} has {len(x)} examples, y_{part} has {len(y)}')
  return Split(x, y)


def inputs(x: np.ndarray, name: str, columns=None, *, varies: bool = True) -> np.ndarray:
  """Images as uint8 or float32 in [0, 1], tables as float32."""
  if not len(x.shape) or not x.size:
    raise DataError(f'{name} is empty (shape {x.shape})')
  if x.dtype.kind not in 'uif':
    raise DataError(f'{name} holds {x.dtype}, not numbers')
  if x.ndim == 2:
    return table(x, name, columns, varies=varies)
  if x.ndim == 3:
    x = x[..., None]
  if x.ndim != 4:
    raise DataError(f'{name} has shape {x.shape}: images [N, H, W, C] or tables [N, D] are read')
  if x.shape[3] > 4:
    raise DataError(f'{name} has shape {x.shape}: the last axis is for channels, 1 to 4 of them')
  if x.dtype == np.uint8:
    return x
  if x.dtype.kind != 'f':
    raise DataError(f'{name} holds {x.dtype}: images are uint8 (0 to 255) or floats in [0, 1]')
  _finite(x, name)
  wrong = (x < 0) | (x > 1)
  if wrong.any():
    index, value = _first(x, wrong)
    raise DataError(f'{name}[{index}] holds {value:g}: images in floats lie in [0, 1]')
  return x.astype(np.float32)


def table(x: np.ndarray, name: str, columns=None, *, varies: bool = True) -> np.ndarray:
  """Rows of numbers as float32, each column of a scale that float32 holds."""
  columns = columns or [str(i) for i in range(x.shape[1])]
  if len(columns) != x.shape[1]:
    raise DataError(f'{name} has {x.shape[1]} columns, but {len(columns)} names for them')
  if x.dtype.kind == 'f':
    _finite(x, name, columns)
  x_ND = x if x.dtype.kind == 'f' else x.astype(np.float64)
  largest_D = np.abs(x_ND).max(0).astype(np.float64)
  spread_D = x_ND.max(0).astype(np.float64) - x_ND.min(0)
  rounding = 8 * np.finfo(x_ND.dtype).eps
  for column, largest, spread in zip(columns, largest_D, spread_D):
    if largest > _LARGEST or (varies and 0 < spread < 1 / _LARGEST):
      scale = f'reaches {largest:.3g}' if largest > _LARGEST else f'varies by {spread:.3g} only'
      raise DataError(f'{name}: column {column} {scale}: rescale it, single precision squares it')
    if varies and rounding * largest < spread < _LEAST_SPREAD * largest:
      raise DataError(
        f'{name}: column {column} varies by {spread:.3g} around {largest:.3g}, which single '
        'precision rounds away: subtract a constant from it'
      )
  return x_ND.astype(np.float32)


def targets(y: np.ndarray, name: str, *, varies: bool = True) -> np.ndarray:
  """Integers are labels, int32 [N]; floats are regression targets, float32 [N, D]."""
  if not len(y.shape) or not y.size:
    raise DataError(f'{name} is empty (shape {y.shape})')
  if y.dtype.kind in 'uib':
    if y.ndim == 2 and y.shape[1] == 1:
      y = y[:, 0]
    if y.ndim != 1:
      raise DataError(f'{name} has shape {y.shape}: labels are one integer an example, [N]')
    wrong = (y < 0) | (y > 1_000_000)
    if wrong.any():
      index, value = _first(y, wrong)
      raise DataError(
        f'{name}[{index}] is {value}: labels count from 0; store y as floats for regression'
      )
    return y.astype(np.int32)
  if y.dtype.kind != 'f' or y.ndim > 2:
    raise DataError(
      f'{name} holds {y.dtype} of shape {y.shape}: labels are integers [N], regression targets '
      'floats [N] or [N, D]'
    )
  y = y[:, None] if y.ndim == 1 else y
  checked_ND = table(y, name, varies=varies)
  if varies:
    vary(checked_ND, name)
  return checked_ND


def vary(y: np.ndarray, name: str):
  """Refuses regression targets that are all the same."""
  still = constant(y)
  if still.any():
    rows = f'in its {len(y)} rows' if len(y) > 1 else 'in its only row'
    raise DataError(
      f'{name}: column {int(np.argmax(still))} is constant {rows}, there is nothing to learn'
    )


def constant(x: np.ndarray) -> np.ndarray:
  """Which columns of a table, or channels of images, hold one number only up to rounding."""
  axes = tuple(range(x.ndim - 1))
  low, high = x.min(axes).astype(np.float64), x.max(axes).astype(np.float64)
  return high - low <= 1e-6 * np.maximum(np.abs(low), np.abs(high))


def labels(parts: dict[str, Split], where: str, classes: int | None, names=None, skipped=()) -> int:
  """The number of classes; every label is within, and every class has a training example.

  Messages have the classes' names, and say where examples were skipped, and why.
  """
  train = parts['train'].y
  highest = int(train.max())
  counts = np.bincount(train, minlength=classes or 0)
  known = classes or len(counts)
  for part, split in parts.items():
    wrong = split.y >= known
    if wrong.any():
      index, value = _first(split.y, wrong)
      why = f'there are {known} classes' if classes else f'y_train ends at {highest}'
      raise DataError(f'{where}: y_{part}[{index}] is {value}, but {why}')
  if (counts == 0).any():
    label = int(np.argmax(counts == 0))
    called = f'{label} of {known}' + (f', {names[label]!r},' if names else '')
    last = f'y_train[{int(np.argmax(train == highest))}] is {highest}'
    why = f'{last}; labels count from 0 without a gap'
    if not names:
      why += '; store y as floats for regression'
    if skipped:
      why = f'{len(skipped)} image(s) skipped, the first: {skipped[0]}'
    raise DataError(f'{where}: class {called} has no training example ({why})')
  return known


def still_there(parts: dict[str, Split], where: str, classes: int):
  """No class lost its last training example to the validation split."""
  counts = np.bincount(parts['train'].y, minlength=classes)
  if (counts == 0).any():
    label = int(np.argmax(counts == 0))
    taken = int((parts['valid'].y == label).sum())
    raise DataError(
      f'{where}: validation took every training example of class {label} ({taken}): set a smaller '
      'data.valid, or give the set an x_valid of its own'
    )


def _finite(x: np.ndarray, name: str, columns=None):
  wrong = ~np.isfinite(x)
  if wrong.any():
    index, value = _first(x, wrong)
    place = f', column {columns[np.nonzero(wrong)[1][0]]},' if columns else ''
    raise DataError(f'{name}[{index}]{place} holds {value}')


def _first(x: np.ndarray, wrong: np.ndarray):
  """The index of the first example that is wrong somewhere, and the number there."""
  place = np.unravel_index(int(np.argmax(wrong)), wrong.shape)
  return int(place[0]), x[place]
