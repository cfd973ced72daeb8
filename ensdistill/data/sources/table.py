"""Tables in text files: a header, rows of numbers, one column of which is the target."""

import csv

import numpy as np

from ensdistill import names
from ensdistill.data import cuts
from ensdistill.data.dataset import DataError, Source, Split
from ensdistill.data.sources import npz

_MISSING = ('', '?', 'na', 'n/a', 'nan', 'null', 'none')
_TEST_SHARE = 0.1
FAMILIES = ('', 'categorical', 'gaussian')


def source(request, path: str, *, target: str = '', family: str = '') -> Source:
  """A file's table; a tenth is for testing, of every class if there are classes, by `split`.

  Args:
    request: which split is wanted.
    path: the file, as it is or in the data folder; its columns are parted by , or ; or tabs.
    target: the name of the column that is predicted; every other column is an input, of numbers.
      What serves as inputs alone needs none.
    family: 'categorical' or 'gaussian' (regression); '': words and whole numbers are classes.
  """
  names.lookup('data.family', family, dict.fromkeys(FAMILIES))
  path = npz.locate(path, request.dir)
  columns, rows = _read(path)
  if not target and request.shape:
    x = [_numbers(path, rows, place, name) for place, name in enumerate(columns)]
    return Source(request.name, {'test': lambda: Split(np.stack(x, 1), None)}, tuple(columns))
  if not target:
    raise ValueError(f'{path}: set data.target to one of its columns: {", ".join(columns)}')
  names.lookup('data.target', target, dict.fromkeys(columns))
  place = columns.index(target)
  inputs = [name for name in columns if name != target]
  if not inputs:
    raise DataError(f'{path} has no column besides {target!r}')
  x = np.stack([_numbers(path, rows, columns.index(name), name) for name in inputs], 1)
  words = [fields[place] for _, fields in rows]
  if family == 'gaussian' or not family and _is_regression(path, words, target):
    classes, y = None, _numbers(path, rows, place, target)
  else:
    classes, y = _classes(path, rows, place, target)
  kept, held = cuts.held_out(y, _TEST_SHARE, request.split)
  if not len(held):
    raise DataError(
      f'{path}: no class has {round(1 / _TEST_SHARE)} rows of {len(y)}, none is left for testing'
    )
  parts = {'train': kept, 'test': held}
  return Source(
    request.name,
    {part: (lambda chosen=chosen: Split(x[chosen], y[chosen])) for part, chosen in parts.items()},
    columns=tuple(inputs),
    classes=classes,
    splits=20,
  )


def _read(path: str) -> tuple[list[str], list[tuple[int, list[str]]]]:
  """The header, and every row with its line in the file."""
  try:
    with open(path, newline='', encoding='utf-8-sig') as file:
      first = file.readline()
      file.seek(0)
      reader = csv.reader(file, delimiter=max(',;\t', key=first.count), skipinitialspace=True)
      rows = [(reader.line_num, [field.strip() for field in fields]) for fields in reader if fields]
  except (OSError, ValueError, csv.Error) as error:
    raise DataError(f'{path} cannot be read as a table: {error}') from error
  if len(rows) < 2:
    raise DataError(f'{path} holds a header and {max(len(rows) - 1, 0)} rows')
  (_, columns), *rows = rows
  if all(_is_number(name) for name in columns):
    raise DataError(f'{path}: the first line ({first.strip()[:40]}) has to name the columns')
  if len(set(columns)) < len(columns):
    twice = next(name for name in columns if columns.count(name) > 1)
    raise DataError(f'{path} has two columns named {twice!r}')
  for line, fields in rows:
    if len(fields) != len(columns):
      raise DataError(f'{path}, line {line}: {len(fields)} values for {len(columns)} columns')
  return columns, rows


def _numbers(path, rows, place: int, name: str) -> np.ndarray:
  """A column as float64, or the error that names the line of what is no number."""
  try:
    numbers = np.array([fields[place] for _, fields in rows], np.float64)
    if np.isfinite(numbers).all():
      return numbers
  except ValueError:
    pass
  line, value = next(
    (line, fields[place])
    for line, fields in rows
    if not _is_number(fields[place]) or not np.isfinite(float(fields[place]))
  )
  raise DataError(f'{_place(path, line, name)} {_wrong(value)}')


def _classes(path, rows, place: int, name: str) -> tuple[tuple[str, ...], np.ndarray]:
  """The names of the classes, numbers in their order, and the labels."""
  for line, fields in rows:
    if fields[place].lower() in _MISSING:
      raise DataError(f'{_place(path, line, name)} {_wrong(fields[place])}')
  words = [fields[place] for _, fields in rows]
  found = set(words)
  classes = sorted(found, key=float) if all(map(_is_number, found)) else sorted(found)
  labels = {word: label for label, word in enumerate(classes)}
  return tuple(classes), np.array([labels[word] for word in words])


def _is_regression(path, words: list[str], name: str) -> bool:
  """Words and whole numbers are classes, unless there are about as many of them as rows."""
  present = [word for word in words if word.lower() not in _MISSING]
  if not all(map(_is_number, present)):
    return False
  if not all(word.lstrip('+-').isdigit() for word in present):
    return True
  if 2 * len(set(present)) > len(present):
    raise ValueError(
      f'{path}: column {name!r} holds {len(set(present))} different whole numbers in '
      f"{len(present)} rows: set data.family='gaussian' to predict the number, or 'categorical'"
    )
  return False


def _is_number(word: str) -> bool:
  try:
    float(word)
    return True
  except ValueError:
    return False


def _place(path, line: int, name: str) -> str:
  return f'{path}, line {line}, column {name!r}:'


def _wrong(value: str) -> str:
  if value.lower() in _MISSING:
    return f'the value is missing ({value!r}): fill it in or remove the line'
  return f'{value!r} is no finite number: give numbers, or remove the column'
