"""Rows of tables in csv and parquet files, block by block, with columns matched by name."""

import csv
import functools
import io
import itertools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from ensdistill.data import DataError, files
from ensdistill.data.sources import table
from ensdistill.student import tables as by_name

_LONGEST_LINE = 2**24  # a longer one is several rows, with errors


class Rows(NamedTuple):
  """Consecutive rows as float64 [N, D]; rows with an error are zeros."""

  x: np.ndarray
  errors: dict[int, str]


def order_of(found: Sequence[str], columns: Sequence[str] | None, size: int) -> list[int]:
  """Return the place of each of the student's columns in a table; other columns are ignored.

  A student that does not know their names takes tables with exactly its number of columns.
  """
  if columns is None:
    if len(found) != size:
      raise DataError(
        f'the table has {len(found)} columns, the student takes {size}: give these, in the order '
        'of training'
      )
    return list(range(size))
  wanted = set(columns)
  kept = [name for name in found if name in wanted]
  by_name.ordered(by_name.Named(kept, 0, kept.__getitem__), columns)  # refuses missing ones
  places = {name: place for place, name in enumerate(found)}
  return [places[name] for name in columns]


def csv_blocks(binary, columns: Sequence[str] | None, size: int, rows: int) -> Iterator[Rows]:
  """Yield the rows of a csv file with a header; values are separated by , or ; or tabs.

  A row that holds something else than finite numbers is an error of its own.
  """
  text = io.TextIOWrapper(binary, encoding='utf-8-sig', errors='replace', newline='')
  first = text.readline(_LONGEST_LINE)
  lines = itertools.chain([first], iter(functools.partial(text.readline, _LONGEST_LINE), ''))
  rows_of_text = table.reader_of(lines, first, 'the table')
  reader = ([field.strip() for field in row] for row in rows_of_text if row)
  try:
    header = next(reader, [])
    if not header:
      raise DataError('the file is empty: the first line names the columns')
    if all(map(table.is_number, header)):
      raise DataError(f'the first line ({first.strip()[:40]}) must name the columns')
    places = order_of(header, columns, size)
    names = [header[place] for place in places]
    while block := list(itertools.islice(reader, rows)):
      yield _numbers(block, places, names, len(header))
  except csv.Error as error:
    raise DataError(f'the file cannot be read as a table: {error}') from None
  finally:
    text.detach()


def _numbers(block: list[list[str]], places, names, width: int) -> Rows:
  """Return a block's values; if they are not all numbers, row by row."""
  try:
    if any(len(row) != width for row in block):
      raise ValueError
    words = [[row[place] for place in places] for row in block]
    x_ND = np.array(words, np.float64)
    text = ''.join(itertools.chain.from_iterable(words))
    # Python also reads 1_000 and digits of other scripts, see table.is_number.
    if np.isfinite(x_ND).all() and text.isascii() and '_' not in text:
      return Rows(x_ND, {})
  except ValueError:
    pass
  x_ND, errors = np.zeros((len(block), len(places))), {}
  for number, row in enumerate(block):
    problem = _problem(row, places, names, width)
    if problem:
      errors[number] = problem
    else:
      x_ND[number] = [float(row[place]) for place in places]
  return Rows(x_ND, errors)


def _problem(row: list[str], places, names, width: int) -> str:
  if len(row) != width:
    return f'{len(row)} values for {width} columns'
  for place, name in zip(places, names):
    if not table.is_number(row[place]) or not np.isfinite(float(row[place])):
      return f'column {name!r} holds {row[place][:40]!r}, not a finite number'
  return ''


def parquet_blocks(
  path: str, columns: Sequence[str] | None, size: int, rows: int
) -> Iterator[Rows]:
  """Yield the rows of a parquet file; missing values and NaN are errors of their rows."""
  parquet = arrow().parquet
  with files.found(path) as file, parquet.ParquetFile(file) as table:
    header = table.schema_arrow.names
    names = [header[place] for place in order_of(header, columns, size)]
    for batch in table.iter_batches(batch_size=rows, columns=names):
      found = [_column(batch, name) for name in names]
      x_ND = np.stack(found, 1) if found else np.zeros((len(batch), 0))
      bad = ~np.isfinite(x_ND)
      errors = {
        int(row): f'column {names[int(np.argmax(bad[row]))]!r} holds no finite number'
        for row in np.flatnonzero(bad.any(1))
      }
      yield Rows(np.where(bad.any(1)[:, None], 0, x_ND), errors)


def _column(batch, name: str) -> np.ndarray:
  import pyarrow

  column = batch.column(batch.schema.names.index(name))
  kind = pyarrow.types
  numeric = kind.is_integer, kind.is_floating, kind.is_boolean, kind.is_decimal
  if not any(is_kind(column.type) for is_kind in numeric):
    raise DataError(f'column {name!r} holds {column.type}, not numbers')
  if kind.is_boolean(column.type):
    column = column.cast(pyarrow.int8())
  # An integer that float64 rounds is rounded, as in every other kind of file.
  return column.cast(pyarrow.float64(), safe=False).to_numpy(zero_copy_only=False)


def arrow():
  """Return pyarrow with its parquet part; raise DataError if it is not installed."""
  try:
    import pyarrow
    import pyarrow.parquet
  except ImportError:
    raise DataError('parquet needs pyarrow: pip install "ensdistill[parquet]"') from None
  return pyarrow


def count(path: str) -> int:
  """Return the number of rows of a table, approximately."""
  if path.lower().endswith(('.parquet', '.pq')):
    with files.found(path) as file, arrow().parquet.ParquetFile(file) as table:
      return table.metadata.num_rows
  with files.found(path) as file:
    lines = sum(part.count(b'\n') for part in iter(lambda: file.read(1 << 20), b''))
  return max(lines - 1, 0)
