"""Tables in text files: a header, rows of numbers, one column of which is the target."""

import csv
import functools
import io
import os
import re
from collections.abc import Iterable

import numpy as np

from ensdistill import families, names
from ensdistill.data import cuts, files
from ensdistill.data.dataset import Examples, Source
from ensdistill.data.errors import DataError
from ensdistill.data.sources import npz

_MISSING = ('', '?', 'na', 'n/a', 'nan', 'null', 'none')
_TEST_SHARE = 0.1
_SPLITS = 20
MOST_COLUMNS = 100_000
_LONGEST_FIELD = 131_072  # characters
_BYTES_PER_BYTE = 30  # of memory for one of the file, while its fields are text
_NUMBER = re.compile(r'[+-]?((\d+\.?\d*|\.\d+)(e[+-]?\d+)?|inf|infinity|nan)', re.I | re.A)
# A field in quotes. A quote within a field is part of the name, such as the inches of `size 5"`.
_QUOTED = re.compile(r'(^|(?<=[,;\t])) *"([^"]|"")*"')


def csv_table(request, path: str, *, target: str = '', family: str = '') -> Source:
  """Return a file's table; each `split` takes another tenth for testing, of every class.

  Args:
    request: which split is wanted, and which columns of a table of inputs.
    path: the file, as given or in the data folder; columns are separated by , or ; or tabs.
    target: the name of the column to predict; all other columns are inputs and hold numbers. A
      table that is used as inputs only needs no target; columns that are not wanted may hold words.
    family: 'categorical' or 'gaussian' (regression); '': words and whole numbers are classes.
  """
  names.check('data.family', family, ('', *families.FAMILIES))
  path = npz.find_file(path, request.dir)
  columns, rows = _header_and_rows(path)
  if not target and request.shape:
    known = set(request.columns or columns)
    wanted = [name for name in columns if name in known]
    parts = {'test': lambda: Examples(_inputs(path, columns, rows, wanted), None)}
    return Source(request.name, parts, path, tuple(wanted))
  if not target:
    raise ValueError(f'{path}: set data.target to one of its columns: {", ".join(columns)}')
  names.check('data.target', target, columns)
  inputs = [name for name in columns if name != target]
  if not inputs:
    raise DataError(f'{path} has no column besides {target!r}: add columns of inputs')
  x = _inputs(path, columns, rows, inputs)
  classes, y = _target(path, rows, columns.index(target), target, family)
  kept, held = cuts.held_out(y, _TEST_SHARE, request.split)
  if not len(held):
    raise DataError(
      f'{path}: no class of the column {target!r} has {round(1 / _TEST_SHARE)} of the {len(y)} '
      f'rows, so none can be held out for testing: add rows{_or_numbers(classes)}'
    )
  parts = {
    'train': functools.partial(Examples, x[kept], y[kept]),
    'test': functools.partial(Examples, x[held], y[held]),
  }
  return Source(request.name, parts, path, tuple(inputs), classes, splits=_SPLITS)


def _or_numbers(classes: tuple[str, ...] | None) -> str:
  """Return another remedy for a target with few rows of each class, if its classes are numbers."""
  if not classes or not all(map(is_number, classes)):
    return ''
  return (
    f", or set data.family='gaussian' to predict the number (it has {len(classes)} values; recipes "
    'METHOD_regression)'
  )


def _header_and_rows(path: str) -> tuple[list[str], list[tuple[int, list[str]]]]:
  """Return the names of the columns, and every row with its line number."""
  rows: list[tuple[int, list[str]]] = []
  try:
    with files.found(path) as binary:
      size = os.fstat(binary.fileno()).st_size
      files.check_memory(
        _BYTES_PER_BYTE * size, f'{path} as text', 'store the table as an .npz file'
      )
      with io.TextIOWrapper(binary, encoding='utf-8-sig', newline='') as file:
        first = file.readline()
        file.seek(0)
        reader = reader_of(file, first, path)
        for fields in reader:
          if not fields:
            continue
          if rows and len(fields) != len(rows[0][1]):
            expected = f'{len(fields)} values for {len(rows[0][1])} columns'
            raise DataError(f'{path}, line {reader.line_num}: {expected}')
          rows.append((reader.line_num, [field.strip() for field in fields]))
  except (OSError, ValueError, csv.Error) as error:
    raise DataError(f'{path} cannot be read as a table: {error}') from error
  if len(rows) < 2:
    raise DataError(f'{path} holds a header and {max(len(rows) - 1, 0)} rows: add rows')
  (_, columns), *rows = rows
  if all(is_number(name) for name in columns):
    raise DataError(f'{path}: the first line ({first.strip()[:40]}) must name the columns')
  if len(set(columns)) < len(columns):
    twice = next(name for name in columns if columns.count(name) > 1)
    raise DataError(f'{path} has two columns named {twice!r}: rename one')
  return columns, rows


def reader_of(lines: Iterable[str], first: str, where: str):
  """Return a csv reader of lines. The first one decides the separator: a comma, semicolon or tab.

  where: the name of the table, for messages.
  """
  outside = _QUOTED.sub('', first)
  delimiter = max(',;\t', key=outside.count)
  if outside.count(delimiter) >= MOST_COLUMNS:
    raise DataError(
      f'{where} has {outside.count(delimiter) + 1:,} columns; the limit is {MOST_COLUMNS:,}'
    )
  csv.field_size_limit(_LONGEST_FIELD)
  return csv.reader(lines, delimiter=delimiter, skipinitialspace=True)


def _target(path, rows, place: int, name: str, family: str):
  """Return the names of the classes, or None for regression, and the targets."""
  if family:
    has_classes = families.FAMILIES[family].has_classes
  else:
    has_classes = not _is_regression(path, [fields[place] for _, fields in rows], name)
  if has_classes:
    return _classes(path, rows, place, name)
  return None, _numbers(path, rows, place, name)


def _inputs(path, columns: list[str], rows, wanted: list[str]) -> np.ndarray:
  """Return some columns as float64 [N, D]."""
  places = {name: place for place, name in enumerate(columns)}
  return np.stack([_numbers(path, rows, places[name], name) for name in wanted], 1)


def _numbers(path, rows, place: int, name: str) -> np.ndarray:
  """Return a column as float64; an error names the line of the first value that is not a number."""
  words = [fields[place] for _, fields in rows]
  if all(map(is_number, words)):
    numbers = np.array(words, np.float64)
    if np.isfinite(numbers).all():
      return numbers
  line, value = next(
    (line, fields[place])
    for line, fields in rows
    if not is_number(fields[place]) or not np.isfinite(float(fields[place]))
  )
  raise _wrong_value(path, line, name, value)


def _classes(path, rows, place: int, name: str) -> tuple[tuple[str, ...], np.ndarray]:
  """Return the names of the classes, sorted as numbers or as words, and the labels."""
  for line, fields in rows:
    if fields[place].lower() in _MISSING:
      raise _wrong_value(path, line, name, fields[place])
  words = [fields[place] for _, fields in rows]
  found = set(words)
  _check_one_spelling(path, found, name)
  classes = sorted(found, key=float) if all(map(is_number, found)) else sorted(found)
  labels = {word: label for label, word in enumerate(classes)}
  return tuple(classes), np.array([labels[word] for word in words])


def _is_regression(path, words: list[str], name: str) -> bool:
  """Return whether a column holds numbers to predict, not classes.

  Whole numbers are classes; if more than half of the rows have different ones, the user must say.
  """
  present = [word for word in words if word.lower() not in _MISSING]
  odd = next(filter(_is_odd_number, present), None)
  if odd and all(is_number(word) or _is_odd_number(word) for word in present):
    raise DataError(
      f'{path}, column {name!r}: {odd!r} is not written as a number: use digits without '
      "underscores, or set data.family='categorical' if it names a class"
    )
  if not all(map(is_number, present)):
    return False
  if not all(word.lstrip('+-').isdigit() for word in present):
    return True
  if 2 * len(set(present)) > len(present):
    raise ValueError(
      f'{path}: column {name!r} holds {len(set(present))} different whole numbers in '
      f"{len(present)} rows: set data.family='gaussian' to predict the number, or 'categorical' to "
      'predict classes'
    )
  return False


def _check_one_spelling(path, found: set[str], name: str) -> None:
  """Refuse two names of classes that are the same number, such as 1 and 1.0."""
  spellings: dict[float, str] = {}
  for word in sorted(found):
    if is_number(word) and spellings.setdefault(float(word), word) != word:
      raise DataError(
        f'{path}, column {name!r}: classes {spellings[float(word)]!r} and {word!r} are the same '
        'number: write one of them'
      )


def is_number(word: str) -> bool:
  """Return whether a word is a decimal number; Python's float also takes 1_000."""
  return _NUMBER.fullmatch(word) is not None


def _is_odd_number(word: str) -> bool:
  """Return whether Python takes a word for a number, and other programs do not."""
  try:
    float(word)
  except ValueError:
    return False
  return not is_number(word)


def _wrong_value(path, line: int, column: str, value: str) -> DataError:
  why = f'{value!r} is not a finite number: store numbers, or remove the column'
  if _is_odd_number(value):
    why = f'{value!r} is not written as a number: use digits without underscores, such as 1000'
  if value.lower() in _MISSING:
    why = f'the value is missing ({value!r}): fill it in or remove the line'
  return DataError(f'{path}, line {line}, column {column!r}: {why}')
