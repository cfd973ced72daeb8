"""Tables by the names of their columns: frames, structured arrays and dicts become arrays."""

import decimal
import numbers
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ensdistill import names

_SHOWN = 5  # names in an error


class Named(NamedTuple):
  """A table whose columns have names; `column(i)` returns the values of one."""

  names: list[str]
  rows: int
  column: Callable[[int], Any]


def named(x) -> Named | None:
  """Return a table with named columns; None for everything else.

  Tables are frames of pandas and polars, structured arrays, lists of dicts, and one dict or one
  pandas Series as a single example.
  """
  if isinstance(x, Mapping):
    return _of_rows([x])
  if isinstance(x, list | tuple) and x and any(isinstance(row, Mapping) for row in x):
    return _of_rows(x)
  if isinstance(x, np.ndarray) and x.dtype.names:
    fields, table = list(x.dtype.names), np.atleast_1d(x)
    if table.ndim != 1:
      raise ValueError(f'a structured array of shape {x.shape}: give one of shape [N]')
    return Named(fields, len(table), lambda i: table[fields[i]])
  if hasattr(x, 'collect') and hasattr(x, 'collect_schema'):
    raise ValueError('inputs are a lazy frame: call its collect()')
  if hasattr(x, 'columns') and hasattr(x, 'to_numpy') and hasattr(x, 'shape'):
    return _of_frame(x)
  if hasattr(x, 'to_dict') and hasattr(x, 'index') and hasattr(x, 'iloc'):  # a Series
    return _of_rows([dict(zip(x.index, x.to_numpy()))])
  return None


def _of_frame(frame) -> Named:
  places = frame.iloc if hasattr(frame, 'iloc') else None

  def column(i: int):
    series = places[:, i] if places is not None else frame.to_series(i)
    return series.to_numpy()

  return Named([str(name) for name in frame.columns], int(frame.shape[0]), column)


def _of_rows(rows: Sequence) -> Named:
  """Return a table of dicts; every dict has the same names, in any order."""
  for number, row in enumerate(rows):
    if not isinstance(row, Mapping):
      raise ValueError(f'row {number} is a {type(row).__name__}, other rows are dicts')
  keys = {str(key): key for key in rows[0]}
  if len(keys) < len(rows[0]):
    twice = next(str(key) for key in rows[0] if keys[str(key)] is not key)
    raise ValueError(f'row 0 has two entries named {twice!r}')
  for number, row in enumerate(rows):
    if row.keys() != rows[0].keys():
      own = {str(key) for key in row}
      absent, other = sorted(keys.keys() - own), sorted(own - keys.keys())
      problem = f'lacks {listed(absent)}' if absent else f'also has {listed(other)}'
      raise ValueError(f'row {number} {problem}, unlike row 0: give every row the same names')
  order = list(keys.values())
  return Named(list(keys), len(rows), lambda i: [row[order[i]] for row in rows])


def ordered(table: Named, columns: Sequence[str]) -> list[int]:
  """Return the place of each column in a table; missing, extra and repeated names are refused."""
  found = table.names
  counts = dict.fromkeys(found, 0)
  for name in found:
    counts[name] += 1
  twice = [name for name, count in counts.items() if count > 1]
  absent = [name for name in columns if name not in counts]
  wanted = set(columns)
  extra = [name for name in counts if name not in wanted]
  problems = [
    f'{title} {listed(wrong)}'
    for title, wrong in (('missing', absent), ('not known', extra), ('repeated', twice))
    if wrong
  ]
  if problems:
    near = names.nearest(absent[0], extra) if absent and extra else None
    hint = f'; is {near!r} meant for {absent[0]!r}?' if near else ''
    raise ValueError(
      f'columns do not match: {"; ".join(problems)}{hint}; the student takes {listed(columns)}'
    )
  places = {name: place for place, name in enumerate(found)}
  return [places[name] for name in columns]


def listed(wanted: Iterable[str]) -> str:
  """Return the first few names, for an error."""
  wanted = list(wanted)
  more = f' and {len(wanted) - _SHOWN} more' if len(wanted) > _SHOWN else ''
  return ', '.join(map(repr, wanted[:_SHOWN])) + more


def array(table: Named, order: Sequence[int] | None = None) -> np.ndarray:
  """Return the columns in an order as float64 [N, D]; missing values are NaN."""
  order = range(len(table.names)) if order is None else order
  x_ND = np.empty((table.rows, len(order)))
  for place, i in enumerate(order):
    x_ND[:, place] = numbers_of(table.column(i), f'column {table.names[i]!r}')
  return x_ND


def numbers_of(values, where: str) -> np.ndarray:
  """Return one column's values as float64 [N]; None and missing values are NaN."""
  if isinstance(values, np.ndarray) and values.dtype.kind in 'buif' and values.ndim == 1:
    return values.astype(np.float64)
  if isinstance(values, np.ndarray) and (values.dtype.kind != 'O' or values.ndim != 1):
    raise ValueError(f'{where} holds {values.dtype} of shape {values.shape}, not numbers')
  return np.array([_number(value, row, where) for row, value in enumerate(values)], np.float64)


def _number(value, row: int, where: str) -> float:
  if isinstance(value, np.ndarray) and value.ndim == 0:
    value = value[()]
  if value is None or type(value).__name__ in ('NAType', 'NaTType'):
    return np.nan
  if not isinstance(value, numbers.Real | np.bool_ | decimal.Decimal):
    shown = names.short_repr(value)
    raise ValueError(f'{where}, row {row}: {shown} is a {type(value).__name__}, not a number')
  try:
    return float(value)
  except (OverflowError, ValueError):
    raise ValueError(f'{where}, row {row}: a number that float64 cannot hold') from None
