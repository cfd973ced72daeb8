"""Writers of predictions: csv, JSON lines and parquet, block by block.

A file is written beside its place and moved there at the end. Values of rows with an error are
empty (csv) or null.
"""

import contextlib
import json
import os
import pathlib
from collections.abc import Callable, Iterator
from typing import TextIO

import numpy as np

from ensdistill.data import DataError
from ensdistill.prediction import tables
from ensdistill.prediction.results import Columns
from ensdistill.storage import safe

Write = Callable[[Columns], None]
_FLOAT = '%.7g'  # what float32 holds
ENDINGS = '.csv', '.jsonl', '.ndjson', '.parquet', '.pq'


def check(path: str) -> None:
  """Raise ValueError for a file that cannot be written, before anything is predicted."""
  if not path.lower().endswith(ENDINGS):
    raise ValueError(f'--out={path} must end in one of {", ".join(ENDINGS)}')
  if os.path.isdir(path):
    raise ValueError(f'--out={path} is a folder: give the name of a file')
  folder = os.path.dirname(path) or '.'
  if not os.path.isdir(folder):
    raise ValueError(f'--out={path}: the folder {folder} does not exist, make it first')
  if path.lower().endswith(('.parquet', '.pq')):
    tables.arrow()


@contextlib.contextmanager
def opened(path: str | None, stdout: TextIO) -> Iterator[Write]:
  """Open the writer that the ending of a file calls for; without a file, csv to `stdout`."""
  if path is None:
    yield _text(stdout, _csv_line, header=_csv_header)
    stdout.flush()
    return
  target = pathlib.Path(path)
  part = safe.part_of(target)
  try:
    with contextlib.ExitStack() as closing:
      with safe.writing(target):
        if path.lower().endswith(('.parquet', '.pq')):
          write = closing.enter_context(_parquet(part))
        else:
          file = closing.enter_context(open(part, 'w', encoding='utf-8', newline=''))
          csv = path.lower().endswith('.csv')
          write = _text(file, _csv_line, header=_csv_header) if csv else _text(file, _json_line)
      yield _naming(write, target)
      with safe.writing(target):
        closing.close()  # may fail, because it writes the last part of the file
    with safe.writing(target):
      os.replace(part, target)
  finally:
    part.unlink(missing_ok=True)


def _naming(write: Write, target: pathlib.Path) -> Write:
  """Return a writer whose errors name the file and the cause."""

  def named(columns: Columns) -> None:
    with safe.writing(target):
      write(columns)

  return named


def _quoted(text: str) -> str:
  """Return a value of a csv file."""
  if any(sign in text for sign in ',"\r\n'):
    return '"' + text.replace('"', '""') + '"'
  return text


def _csv_header(names: list[str]) -> str:
  return ','.join(map(_quoted, names))


def _csv_line(names: list[str], forms: list[str]) -> tuple[str, Callable, str]:
  """Return the template of a row, the function that quotes texts, and the missing value."""
  return ','.join(forms), _quoted, ''


def _json_line(names: list[str], forms: list[str]) -> tuple[str, Callable, str]:
  keys = [json.dumps(name).replace('%', '%%') for name in names]
  return '{' + ', '.join(map('{}: {}'.format, keys, forms)) + '}', json.dumps, 'null'


def _text(file: TextIO, line: Callable, header: Callable | None = None) -> Write:
  """Return the writer of one line a row."""
  first = True

  def write(columns: Columns) -> None:
    nonlocal first
    names = list(columns)
    if first and header:
      file.write(header(names) + '\n')
    first = False
    exact = ['%s' if _kind(values) != 'f' else _FLOAT for values in columns.values()]
    template, quoted, missing = line(names, exact)
    loose, *_ = line(names, ['%s'] * len(names))
    lists = [_listed(values, quoted) for values in columns.values()]
    lists[-1] = [quoted(error) if error else missing for error in columns['error']]
    lines = [template % row for row in zip(*lists)]
    for row in np.flatnonzero(_odd(columns)).tolist():
      error = columns['error'][row]
      cells = [_cell(name, own[row], error, quoted, missing) for name, own in columns.items()]
      lines[row] = loose % tuple(cells)
    file.write('\n'.join([*lines, '']))

  return write


def _kind(values) -> str:
  return 's' if isinstance(values, list) else values.dtype.kind


def _listed(values, quoted: Callable) -> list:
  """Return a column as the values of a template; texts are written."""
  if isinstance(values, list):
    return list(map(quoted, values))
  if values.dtype.kind == 'b':
    return ['true' if value else 'false' for value in values.tolist()]
  return values.tolist()


def _odd(columns: Columns) -> np.ndarray:
  """Return which rows have an error or a value that is not finite."""
  is_odd = np.array(columns['error'], bool)
  for values in columns.values():
    if _kind(values) == 'f':
      is_odd |= ~np.isfinite(values)
  return is_odd


def _cell(name: str, value, error: str, quoted: Callable, missing: str) -> str:
  """Return the text of one value of such a row; JSON lines have null for infinity."""
  if name in ('input', 'error'):
    return quoted(value) if value else missing
  if error:
    return missing
  if isinstance(value, str):
    return quoted(value)
  if isinstance(value, bool | np.bool_):
    return 'true' if value else 'false'
  return _FLOAT % value if np.isfinite(value) or not missing else missing


@contextlib.contextmanager
def _parquet(path: pathlib.Path) -> Iterator[Write]:
  arrow = tables.arrow()
  kinds = {'f': arrow.float32(), 'b': arrow.bool_(), 's': arrow.string()}
  writer = None

  def write(columns: Columns) -> None:
    nonlocal writer
    errors = columns['error']
    wrong = np.array(errors, bool)
    arrays = []
    for name, values in columns.items():
      if name == 'error':
        arrays.append(arrow.array(errors, arrow.string(), mask=~wrong))
      elif name == 'input' or not wrong.any():
        arrays.append(arrow.array(values))
      else:
        arrays.append(arrow.array(values, mask=wrong))
    if writer is None:
      if len(set(columns)) < len(columns):
        raise DataError('two classes have the same name: choose csv')
      fields = [arrow.field(name, _type(arrow, name, values, kinds))
                for name, values in columns.items()]  # fmt: skip
      schema = arrow.schema(fields)
      writer = arrow.parquet.ParquetWriter(path, schema)
    arrays = [array.cast(field.type) for array, field in zip(arrays, writer.schema)]
    writer.write_batch(arrow.record_batch(arrays, schema=writer.schema))

  try:
    yield write
  finally:
    if writer is not None:
      writer.close()


def _type(arrow, name: str, values, kinds):
  """Return the type of a column: float64 only where the values are."""
  if isinstance(values, np.ndarray) and values.dtype == np.float64:
    return arrow.float64()
  return kinds[_kind(values)]
