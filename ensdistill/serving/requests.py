"""Read the options and the rows of a request from untrusted bytes."""

import functools
import io
import json
import math
import re
import urllib.parse
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from ensdistill import names
from ensdistill.data.images import decode, sizes
from ensdistill.prediction import sources, tables
from ensdistill.prediction.options import Options
from ensdistill.serving.hosted import Hosted
from ensdistill.serving.refused import Refused
from ensdistill.student import inputs
from ensdistill.student.calibration import KINDS, LEVELS
from ensdistill.student.inputs import Accepted

JSON, NPY, CSV, BYTES = (
  'application/json',
  'application/x-npy',
  'text/csv',
  'application/octet-stream',
)
IMAGES = ('image/png', 'image/jpeg', 'image/webp', 'image/gif', 'image/bmp', 'image/tiff')
INSTANCES = 'instances'  # the entry of a JSON body
_SLACK = 64  # separators of JSON around the rows
PIXELS = 40_000_000  # of one image: its memory before it is resized
_NUMPY = b'\x93NUMPY'
_TRUE_FALSE = {'true': True, 'false': False}
_NUMBER = re.compile(r'(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,3})?', re.ASCII)
PART = r'1/[1-9][0-9]{0,5}'  # a scale as people write it


class Read(NamedTuple):
  """The rows of a request."""

  accepted: Accepted
  x: np.ndarray  # float32, as the network takes them


def _flag(text: str) -> bool:
  return _TRUE_FALSE[text]


def _share(text: str) -> float:
  value = _number(text)
  if not LEVELS[0] <= value <= LEVELS[-1]:
    raise ValueError
  return value


def _scale(text: str) -> float:
  value = 1 / int(text[2:]) if re.fullmatch(PART, text, re.ASCII) else _number(text)
  if not 0 < value <= 1:
    raise ValueError
  return value


def _number(text: str) -> float:
  if not _NUMBER.fullmatch(text):
    raise ValueError
  return float(text)


def _kind(text: str) -> str:
  if text not in KINDS:
    raise ValueError
  return text


# {option: (reader, what it must be)}
OPTIONS: dict[str, tuple[Callable[[str], Any], str]] = {
  'calibrated': (_flag, 'true or false'),
  'coverage': (_share, f'a number from {LEVELS[0]} to {LEVELS[-1]}'),
  'sets': (_kind, f'one of {", ".join(KINDS)}'),
  'abstain': (_share, f'a number from {LEVELS[0]} to {LEVELS[-1]}'),
  'members': (_flag, 'true or false'),
  'scale': (_scale, 'a number above 0 and up to 1, such as 1/255'),
}


@functools.lru_cache(maxsize=256)
def options(query: bytes) -> Options:
  """Return the options of a query string."""
  try:
    pairs = urllib.parse.parse_qsl(
      query.decode('ascii'), keep_blank_values=True, max_num_fields=16, errors='strict'
    )
  except ValueError:  # among them UnicodeError
    raise Refused(400, 'the query cannot be read: write options as in ?coverage=0.9') from None
  values: dict[str, Any] = {}
  for name, text in pairs:
    if name not in OPTIONS:
      raise Refused(400, str(names.unknown('option', name[:80], OPTIONS)))
    if name in values:
      raise Refused(400, f'the option {name} is given twice')
    read, must_be = OPTIONS[name]
    try:
      values[name] = read(text)
    except (ValueError, KeyError):
      raise Refused(400, f'{name}={text[:40]!r} must be {must_be}') from None
  return Options(**values)


def content_type(header: str, hosted: Hosted, encoding: str = '') -> str:
  """Return the type of a body without its parameters; refuse one that the student does not take."""
  if encoding not in ('', 'identity'):
    raise Refused(415, f'Content-Encoding {encoding[:40]!r} is not read: send the body as it is')
  found = header.partition(';')[0].strip().lower()
  known = types(hosted)
  if found not in known:
    raise Refused(
      415, f'Content-Type {found[:60]!r} is not one that {hosted.name} takes: {", ".join(known)}'
    )
  return found


def types(hosted: Hosted) -> tuple[str, ...]:
  """Return the types of bodies that a student takes."""
  return (JSON, NPY, CSV, BYTES) if hosted.is_table else (JSON, NPY, *IMAGES, BYTES)


def is_light(kind: str, body: bytes | bytearray) -> bool:
  """Return whether reading a body takes less than about a millisecond."""
  return kind in (JSON, NPY) and len(body) <= 2**16


def read(
  body: bytes | bytearray, kind: str, hosted: Hosted, options: Options, max_rows: int
) -> Read:
  """Return the rows of a body of a known type, checked against what the student was trained on."""
  try:
    x = _rows(body, kind, hosted, options, max_rows)
    accepted = inputs.accept(x, hosted.model.spec, scale=options.scale)
  except (Refused, MemoryError):
    raise
  except inputs.InvalidRows as error:  # a request has no argument on_invalid
    raise Refused(400, sources.one_line(ValueError(error.problem))) from None
  except Exception as error:  # decoders raise errors of many kinds
    raise Refused(400, sources.one_line(error)) from None
  if len(accepted.x) > max_rows:
    raise _too_many(max_rows)
  return Read(accepted, sizes.as_dtype(accepted.x, np.float32))


def _too_many(max_rows: int) -> Refused:
  return Refused(413, f'the limit is {max_rows:,} rows a request: send them in parts')


def _rows(body: bytes | bytearray, kind: str, hosted: Hosted, options: Options, max_rows: int):
  if kind == JSON:
    return _of_json(body, hosted, max_rows)
  if kind == NPY or (kind == BYTES and body.startswith(_NUMPY)):
    found = sources.array(io.BytesIO(body), 'x', hosted.takes)
    return _joined((block.x for block in found), hosted, max_rows)
  if kind == CSV:
    size = hosted.shape[0]
    rows = tables.csv_blocks(io.BytesIO(body), hosted.takes.columns, size, max_rows + 1)
    return _joined(map(_without_errors, rows), hosted, max_rows)
  if hosted.is_table:
    raise Refused(415, f'the body is not an .npy array: send it as {NPY}, {JSON} or {CSV}')
  if options.scale is not None:
    raise Refused(400, 'scale is for arrays: encoded images need none')
  return image(bytes(body), hosted)[None]


def _without_errors(rows: tables.Rows) -> np.ndarray:
  for row, problem in rows.errors.items():
    raise ValueError(f'row {row}: {problem}')
  return rows.x


def _joined(blocks: Iterator[np.ndarray], hosted: Hosted, max_rows: int) -> np.ndarray:
  found, rows = [], 0
  for block in blocks:
    rows += len(block)
    if rows > max_rows:
      raise _too_many(max_rows)
    found.append(block)
  return np.concatenate(found) if found else np.zeros((0, *hosted.shape), np.float32)


def image(body: bytes, hosted: Hosted) -> np.ndarray:
  """Return an encoded image as uint8 in the student's shape, by the treatment of training."""
  too_large = Refused(413, f'the image has more than {PIXELS:,} pixels: make it smaller')
  try:
    with decode.opened(body) as opened:
      width, height = opened.size
  except decode.TooManyPixels:
    raise too_large from None
  if width * height > PIXELS:
    raise too_large
  return decode.image(body, hosted.shape, hosted.takes.window)


def _of_json(body: bytes | bytearray, hosted: Hosted, max_rows: int):
  """Return the rows of {"instances": [...]}: float64, or a list of objects by column."""
  # Bounded before parsing, because every value becomes an object in memory.
  if _separators(body) > max_rows * _separators_of_row(hosted) + _SLACK:
    raise Refused(413, f'the body holds more than {max_rows:,} rows of numbers: send them in parts')
  try:
    text = body.decode('utf-8')
    found = json.loads(text, parse_constant=_no_constant)
  except RecursionError:
    raise Refused(400, 'the body is nested too deeply') from None
  except UnicodeDecodeError:
    raise Refused(400, 'the body is not UTF-8') from None
  except json.JSONDecodeError as error:
    raise Refused(400, f'the body is not JSON: {error}') from None
  except ValueError:  # Python reads integers of at most 4300 digits
    raise Refused(400, 'the body holds a number of too many digits') from None
  if not isinstance(found, dict) or found.keys() != {INSTANCES}:
    raise Refused(400, f'the body must be {{"{INSTANCES}": [...]}}: options go into the query')
  rows = found[INSTANCES]
  if not isinstance(rows, list):
    raise Refused(400, f'{INSTANCES} must be a list of inputs, even for one')
  if len(rows) > max_rows:
    raise _too_many(max_rows)
  if not rows:
    return np.zeros((0, *hosted.shape), np.float32)
  if isinstance(rows[0], dict) and hosted.is_table:
    return _objects(rows)
  if not (_holds_numbers_alone(text) and isinstance(rows[0], list)):
    _only_numbers(rows, len(hosted.shape))
  grey = not hosted.is_table and hosted.shape[2] == 1
  try:
    x = np.asarray(rows, np.float64)
    problem = f'got {list(x.shape)}'
    if x.shape[1:] == hosted.shape or (grey and x.shape[1:] == hosted.shape[:2]):
      return x
  except (ValueError, OverflowError, TypeError) as error:
    problem = 'a number is too large' if isinstance(error, OverflowError) else 'lengths differ'
  shape = ', '.join(map(str, hosted.shape))
  raise Refused(400, f'{INSTANCES} must have the shape [N, {shape}]: {problem}')


def _holds_numbers_alone(text: str) -> bool:
  """Return whether JSON of one key can hold nothing but lists and numbers under it."""
  return (
    text.count('"') == 2
    and text.count('{') == 1
    and not any(word in text for word in ('true', 'false', 'null'))
  )


def _separators(body: bytes | bytearray) -> int:
  """Return a bound on the number of values in JSON: its commas, and what opens a list or object."""
  return sum(map(body.count, (b',', b'[', b'{')))


def _separators_of_row(hosted: Hosted) -> int:
  """Return the most separators of one row: two for each value, and those in names of columns."""
  names_of_columns = ''.join(hosted.model.columns or ())
  return 2 * math.prod(hosted.shape) + hosted.shape[0] + 4 + sum(map(names_of_columns.count, ',[{'))


def _no_constant(name: str):
  raise Refused(400, f'the body holds {name}: numbers must be finite')


def _objects(rows: list) -> list:
  for place, row in enumerate(rows):
    if not isinstance(row, dict):
      raise Refused(400, f'{INSTANCES}[{place}] must be an object, like the first one')
    for name, value in row.items():
      if type(value) not in (int, float):
        raise Refused(400, f'{INSTANCES}[{place}]: {name[:60]!r} must be a number')
  return rows


def _only_numbers(rows: list, depth: int) -> None:
  """Refuse lists that hold anything but numbers, in at most `depth` lists inside each other."""
  for place, row in enumerate(rows):
    if not isinstance(row, list):
      raise Refused(400, f'{INSTANCES} must be lists of numbers, {depth} deep: got {_name(row)}')
    kinds = set(map(type, row))
    if kinds <= {int, float}:
      continue
    if depth > 1 and kinds == {list}:
      _only_numbers(row, depth - 1)
      continue
    held = next(value for value in row if type(value) not in (int, float))
    raise Refused(400, f'{INSTANCES} must hold numbers only: [{place}] holds {_name(held)}')


def _name(value) -> str:
  """Return a value's type as JSON calls it."""
  known = {bool: 'true or false', str: 'a text', dict: 'an object', list: 'a list'}
  return known.get(type(value), 'null' if value is None else 'a number')
