"""Check the inputs of a student against its training data.

Nothing is guessed. Inputs that are not clearly what the student was trained on are refused, with
the value, the range, and the `scale=` that would be right where one is.
"""

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from ensdistill import messages, names
from ensdistill.student import tables

ON_INVALID = ('error', 'flag')
FAR = 0.5  # widths of a column's training range beyond which a value is far outside
ROUNDING = 1e-6  # by which scaled images may leave [0, 1]
LARGEST = 1e18  # as in training; float32 can represent its square
SCALES = {1: '1', 255: '1/255', 1023: '1/1023', 4095: '1/4095', 65535: '1/65535'}


class Accepted(NamedTuple):
  """Inputs that a network takes, and which of them are invalid or far outside."""

  x: np.ndarray  # [N, ...], uint8 or float32; invalid rows are replaced
  invalid: np.ndarray  # bool [N]: NaN, infinity, or too large
  outside: np.ndarray | None  # bool [N]; None if the training range is unknown


class InvalidRows(ValueError):
  """Rows that are not finite, or whose predictions are not.

  `problem` says which and what to give instead, `which` names the rows for the argument on_invalid.
  """

  def __init__(self, problem: str, which: str):
    super().__init__(problem, which)
    self.problem, self.which = problem, which

  def __str__(self):
    return f"{self.problem}, or pass on_invalid='flag' for NaN in the outputs of {self.which} rows"


def describe(dataset) -> dict:
  """Return what a student stores of its training inputs, as plain JSON types.

  Images have the range of their type, tables the range of each column.
  """
  x, columns = dataset.train.x, dataset.columns or ()
  if len(dataset.shape) == 3:
    return {'columns': None, 'low': [0.0], 'high': [255.0 if x.dtype == np.uint8 else 1.0]}
  labelled = x[: len(x) - dataset.auxiliary]
  return {
    'columns': list(columns) if columns and len({*columns}) == len(columns) else None,
    'low': labelled.min(0).astype(float).tolist(),
    'high': labelled.max(0).astype(float).tolist(),
  }


def accept(x, spec: Mapping, *, scale: float | None = None, on_invalid: str = 'error') -> Accepted:
  """Return inputs as the network takes them.

  Args:
    x: examples, see `Model.predict`.
    spec: the student's description.
    scale: number that images are multiplied by, so that they lie in [0, 1].
    on_invalid: 'error' refuses NaN and infinity, 'flag' marks their rows.
  """
  names.check('on_invalid', on_invalid, ON_INVALID)
  shape, trained_on = tuple(spec['shape']), spec.get('inputs') or {}
  columns = trained_on.get('columns')
  x = _array(x, shape, columns)
  x = _batch(x, shape, columns)
  if len(shape) == 3:
    with np.errstate(over='ignore', invalid='ignore'):  # infinity is looked for below
      x = _images(x, scale)
    return _finite(x, on_invalid, None)
  if scale is not None:
    raise ValueError(
      f'scale={scale!r} is for images: give tables in the units of the training data'
    )
  with np.errstate(over='ignore', invalid='ignore'):
    return _table(x, trained_on, on_invalid)


def _array(x, shape, columns) -> np.ndarray:
  """Return inputs as an array of numbers; named columns are matched by name."""
  table = tables.named(x)
  if table:
    if len(shape) != 1:
      raise ValueError(f'inputs are a table with names, the student takes images {list(shape)}')
    if not columns:
      raise ValueError(
        'the student does not know the names of its columns: give an array, with the columns in '
        'the order of training'
      )
    return tables.array(table, tables.ordered(table, columns))
  if isinstance(x, np.ma.MaskedArray):
    raise ValueError('inputs are a masked array: fill in its values, or remove these rows')
  try:
    array = np.asarray(x)
  except Exception as error:  # of other libraries' arrays, and of lists of unequal lengths
    raise ValueError(
      f'inputs ({type(x).__name__}) cannot become an array ({messages.one_line(error)}): '
      f'{_wanted(shape)}'
    ) from None
  if array.dtype.name in ('bfloat16', 'float8_e4m3fn', 'float8_e5m2'):
    array = array.astype(np.float32)
  if array.dtype.kind not in 'buif':
    held = type(x).__name__ if not array.ndim else str(array.dtype)
    raise ValueError(f'inputs hold {held}, not numbers: {_wanted(shape)}')
  return array


def _wanted(shape) -> str:
  return f'give numbers [N, {", ".join(map(str, shape))}]'


def _batch(x: np.ndarray, shape: tuple[int, ...], columns) -> np.ndarray:
  """Return inputs [N, *shape]: one example is a batch of one, [] an empty batch.

  Grey images may lack the channel axis.
  """
  if x.shape[1:] == shape and x.ndim == len(shape) + 1:
    return x
  if x.shape == shape:
    return x[None]
  if x.shape == (0,):
    return np.zeros((0, *shape), x.dtype if x.dtype == np.uint8 else np.float32)
  if len(shape) == 3 and shape[2] == 1 and x.shape[-2:] == shape[:2] and x.ndim in (2, 3):
    return x.reshape(-1, *shape)
  names = f' (columns {tables.listed(columns)})' if columns else ''
  raise ValueError(
    f'inputs have shape {list(x.shape)}, the student takes {["N", *shape]}{names}'.replace("'", '')
  )


def _images(x: np.ndarray, scale) -> np.ndarray:
  """Return images as uint8, or as float32 in [0, 1]."""
  if scale is not None:
    scale = _checked_scale(scale)
    x = x.astype(np.float64) * scale
  elif x.dtype == np.uint8:
    return x
  elif x.dtype.kind != 'f':
    low, high = (int(x.min()), int(x.max())) if x.size else (0, 0)
    raise ValueError(
      f'images hold {x.dtype} from {low} to {high}, the student takes uint8 or floats in [0, 1]: '
      f'{_advice(low, high)}'
    )
  if not x.size or (x.min() >= 0 and x.max() <= 1):  # false for NaN, too
    return x.astype(np.float32)
  inside = np.isfinite(x)
  wrong = inside & ((x < -ROUNDING) | (x > 1 + ROUNDING))
  if wrong.any():
    row = int(np.argmax(wrong.reshape(len(x), -1).any(1)))
    low, high = float(x[inside].min()), float(x[inside].max())
    value = float(x[row][wrong[row]][0])
    after = f' after scale={scale:g}' if scale else ''
    advice = _advice(low / (scale or 1), high / (scale or 1))
    raise ValueError(
      f'images[{row}] holds {value:g}{after}, the range is [{low:g}, {high:g}], the student takes '
      f'uint8 or floats in [0, 1]: {advice}'
    )
  x = np.where(inside, np.clip(x, 0, 1), x)  # NaN and infinity stay, _finite looks for them
  return x.astype(np.float32)


def _checked_scale(scale) -> float:
  if isinstance(scale, bool) or not isinstance(scale, int | float | np.integer | np.floating):
    raise ValueError(f'scale={scale!r} must be a number, such as 1/255')
  if not (math.isfinite(scale) and scale > 0):
    raise ValueError(f'scale={scale!r} must be positive and finite, such as 1/255')
  return float(scale)


def _advice(low: float, high: float) -> str:
  """Return the scale that brings a range into [0, 1], or what else to do."""
  if low < 0:
    return (
      'no scale= brings negative values there, give (x - low) / (high - low) with the least and '
      'the largest value that x can have'
    )
  for largest, text in SCALES.items():
    if high <= largest:
      return f'pass scale={text} if x is stored from 0 to {largest}'
  return 'pass scale=1/(the largest value that x can have)'


def _table(x: np.ndarray, known: Mapping, on_invalid: str) -> Accepted:
  """Return a table as float32, with the rows that are far outside the training range."""
  x = x.astype(np.float64)
  outside = None
  if 'low' in known:
    low, high = (np.asarray(known[name], np.float64) for name in ('low', 'high'))
    slack = np.maximum(FAR * (high - low), 1e-6 * np.maximum(np.abs(low), np.abs(high)))
    finite = np.isfinite(x)
    outside = (finite & ((x < low - slack) | (x > high + slack))).any(1)
  too_large = np.abs(x) > LARGEST  # includes infinity
  x = np.where(too_large, np.inf, x)
  found = _finite(x.astype(np.float32), on_invalid, known.get('columns'))
  return found._replace(outside=outside)


def _finite(x: np.ndarray, on_invalid: str, columns) -> Accepted:
  """Return the inputs with invalid rows marked and replaced by zeros, or refuse them."""
  none = np.zeros(len(x), bool)
  if x.dtype == np.uint8 or np.isfinite(x).all():
    return Accepted(x, none, none)
  wrong = ~np.isfinite(x)
  invalid = wrong.reshape(len(x), -1).any(1)
  if on_invalid == 'error':
    row = int(np.argmax(invalid))
    place = np.argwhere(wrong[row])[0].tolist()
    what = 'NaN' if np.isnan(x[row][tuple(place)]) else 'infinity or more than float32 can square'
    where = f'column {columns[place[0]]!r}' if columns else f'position {place}'
    more = f' ({int(invalid.sum())} rows of {len(x)} do)' if invalid.sum() > 1 else ''
    raise InvalidRows(f'row {row}, {where}, holds {what}{more}: give finite numbers', 'these')
  mask = invalid.reshape(-1, *(1,) * (x.ndim - 1))
  return Accepted(np.where(mask, np.float32(0), x), invalid, none)


def with_overflow(accepted: Accepted, values, on_invalid: str) -> np.ndarray:
  """Return the invalid rows, with those whose predictions are not finite; or refuse these.

  A finite number far outside the training range can exceed float32 inside the network.
  """
  lost = np.zeros(len(accepted.x), bool)
  for value in values[:2]:  # probabilities, means
    if value is not None:
      lost |= ~np.isfinite(value).all(-1)
  lost &= ~accepted.invalid
  if lost.any() and on_invalid == 'error':
    row = int(np.argmax(lost))
    raise InvalidRows(
      f'row {row} is so far outside the training range that its prediction is not finite: correct '
      'it',
      'such',
    )
  return accepted.invalid | lost
