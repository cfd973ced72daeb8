"""Predict with a finished student on files of any size.

INPUT is an image, a folder of images, a pattern in quotes, an array (.npy, .npz), a table (.csv,
.parquet), or - for standard input. Exit codes: 2 for wrong usage, 1 if the student cannot be read
or an input is bad: its row says why, and all others are done.
"""

import argparse
import concurrent.futures
import contextlib
import fractions
import math
import os
import sys
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from ensdistill.commands.usage import (
  Parser,
  add_imports,
  fail,
  loaded_student,
  memory_in_one_line,
  reason,
  stoppable,
)

if TYPE_CHECKING:
  from ensdistill.prediction.results import Columns, Wanted
  from ensdistill.prediction.sources import Block

SILENCE = 30.0  # seconds between lines where the error stream is no terminal


def _parse(arguments, prog: str):
  about, *more = (__doc__ or '').split('\n\n')
  parser = Parser(prog=prog, description=about, epilog='\n'.join(more))
  parser.add_argument('student', metavar='STUDENT', help="a run's folder, or its folder student")
  parser.add_argument('input', metavar='INPUT', nargs='+', help='what to predict on')

  def add(name, metavar, help, **settings):
    parser.add_argument(f'--{name}', metavar=metavar, help=help, **settings)

  add('out', 'FILE', 'a .csv, .jsonl or .parquet file (default: csv to standard output)')
  add('coverage', 'C', 'add prediction sets, or intervals, of this coverage', type=_share)
  add('sets', 'lac|aps', 'the kind of prediction sets (default: lac)', choices=('lac', 'aps'))
  add('abstain', 'RATE', 'mark the most uncertain rows, at most this share', type=_share)
  parser.add_argument(
    '--calibrated', action='store_true', help='scale probabilities by temperature'
  )
  add('scale', 'S', 'number that arrays of images are multiplied by, such as 1/255', type=_scale)
  add('batch_size', 'N', 'examples of one block', type=int, default=500)
  add_imports(parser)
  options = parser.parse_args(arguments)
  if options.batch_size < 1:
    parser.error(f'--batch_size={options.batch_size} must be at least 1')
  if options.input.count('-') > 1:
    parser.error('- can be given once')
  return options


def _share(text: str) -> float:
  try:
    value = float(text)
  except ValueError:
    value = math.nan
  if not 0 < value < 1:
    raise argparse.ArgumentTypeError(f'{text!r} must be a number between 0 and 1, such as 0.9')
  return value


def _scale(text: str) -> float:
  try:
    value = float(fractions.Fraction(text.replace(' ', '')))
  except (ValueError, ArithmeticError):  # a zero below the line, or more than a float holds
    value = math.nan
  if not value > 0:
    raise argparse.ArgumentTypeError(f'{text!r} must be a positive number, such as 1/255')
  return value


@stoppable
@memory_in_one_line()
def main(arguments: Sequence[str] | None = None, prog: str = 'ensdistill predict') -> None:
  """Run the command with its arguments, those of the process by default."""
  options = _parse(arguments, prog)
  from ensdistill import runtime
  from ensdistill.data import DataError
  from ensdistill.data.images import decode
  from ensdistill.prediction import writers

  runtime.prepare()
  model = loaded_student(options.student, options.imports)
  try:
    decode.largest()  # a wrong limit on pixels is refused here, not in the row of every image
    if options.out:
      writers.check(options.out)
      _check_is_no_input(options)
    wanted = wanted_of(model, options)
  except ValueError as error:
    fail(2, str(error))
  except DataError as error:
    fail(1, reason(error))
  try:
    summary = predict(model, options, wanted)
  except (DataError, OSError) as error:
    if isinstance(error, BrokenPipeError):
      raise
    fail(1, reason(error))
  if summary.errors:
    print(summary.text(), file=sys.stderr)
    sys.exit(1)


def _check_is_no_input(options) -> None:
  for path in options.input:
    with contextlib.suppress(OSError):
      if os.path.samefile(path, options.out):
        raise ValueError(f'--out={options.out} is one of the inputs: choose another file')


def wanted_of(model, options) -> 'Wanted':
  """Return the columns that the options ask for; raise ValueError if the student lacks them."""
  from ensdistill.prediction.options import OptionError, Options, checked, classes
  from ensdistill.prediction.results import Wanted
  from ensdistill.student.calibration import KINDS

  given = {name: getattr(options, name) for name in Options._fields if name != 'members'}
  try:
    found = checked(Options(**given), model)
  except OptionError as error:
    raise ValueError(f'--{error}') from None
  names = classes(model)
  if names is None and found.coverage is None:
    print(f'no quantiles: {model.why_uncalibrated}', file=sys.stderr)
  table = len(model.spec['shape']) == 1 and bool(model.spec.get('inputs'))
  kind = found.sets or KINDS[0]
  return Wanted(names, model.spec['targets'], found.coverage, kind, found.abstain, outside=table)


class Summary:
  """Counts of rows, of rows with an error, and of right labels of images in folders of classes."""

  def __init__(self, classes: Sequence[str] | None):
    self.rows = self.errors = self.labelled = self.right = 0
    self._classes, self._first = set(classes or ()), ''

  def add(self, columns: 'Columns') -> None:
    """Count the rows of a block."""
    errors, inputs = columns['error'], columns['input']
    self.rows += len(errors)
    wrong = [row for row, error in enumerate(errors) if error]
    self.errors += len(wrong)
    if wrong and not self._first:
      self._first = f'{inputs[wrong[0]]}: {errors[wrong[0]]}'
    if self._classes:
      from ensdistill.data.images.decode import SUFFIXES

      for path, label, error in zip(inputs, columns['label'], errors):
        folder = os.path.basename(os.path.dirname(path))
        if folder in self._classes and not error and path.lower().endswith(SUFFIXES):
          self.labelled += 1
          self.right += folder == label

  def text(self) -> str:
    """Return the line about errors."""
    return f'{self.errors:,} of {self.rows:,} rows have an error, the first is {self._first}'


def predict(model, options, wanted: 'Wanted') -> Summary:
  """Predict on all inputs and write the results, block by block; return the counts."""
  from ensdistill import stopping
  from ensdistill.prediction import results, sources, writers

  takes = sources.takes_of(model)
  settings: dict[str, Any] = {'on_invalid': 'flag', 'batch_size': options.batch_size}
  settings['calibrated'] = options.calibrated
  images = takes.images and wanted.classes
  summary = Summary(wanted.classes if images else None)

  def of(block: 'Block') -> 'Columns':
    if block.x is None:
      return results.of_block(block, None, wanted)
    scale = None if block.decoded else options.scale
    return results.of_block(block, model.predict(block.x, scale=scale, **settings), wanted)

  total = None if '-' in options.input else sources.count(options.input, takes)
  stdin = sys.stdin.buffer if '-' in options.input else None
  with writers.opened(options.out, sys.stdout) as write, _display(total) as update:
    with _behind(write) as later:
      for columns in _columns(sources.groups(options.input, takes, stdin), of):
        summary.add(columns)
        later(columns)
        update(summary.rows)
        stopping.check()
      if not summary.rows:  # an empty array or table: a file with the columns alone
        later(of(sources.Block([], None, {})))
  if summary.labelled:
    share = 100 * summary.right / summary.labelled
    print(f'accuracy {share:.2f} % of {summary.labelled:,} images in folders named after classes',
          file=sys.stderr)  # fmt: skip
  return summary


def _columns(groups, of: Callable) -> Iterator['Columns']:
  """Yield the columns of every block; a file that cannot be read or predicted on ends in a row."""
  from ensdistill.prediction.sources import Block

  for group in groups:
    with contextlib.closing(_ahead(group.blocks)) as blocks:
      columns, problem = _next(blocks, of)
      while columns is not None:
        yield columns
        columns, problem = _next(blocks, of)
      if problem:
        yield of(Block([group.name], None, {0: problem}))


def _next(blocks: Iterator, of: Callable) -> 'tuple[Columns | None, str]':
  """Return the columns of the next block, or None; and why it has none, '' after the last one."""
  from ensdistill import memory
  from ensdistill.data import DataError
  from ensdistill.prediction.sources import one_line

  try:
    block = next(blocks, None)
  except Exception as error:  # readers raise errors of many kinds
    if memory.exhausted(error):
      raise
    return None, one_line(error)
  if block is None:
    return None, ''
  try:
    return of(block), ''
  except (ValueError, DataError) as error:
    return None, f'from {block.names[0]} on: {one_line(error)}'


def _ahead(blocks: Iterator) -> Generator:
  """Yield the blocks; the next one is read while one is in use."""
  with concurrent.futures.ThreadPoolExecutor(1) as reader:
    future = reader.submit(next, blocks, None)
    while (block := future.result()) is not None:
      future = reader.submit(next, blocks, None)
      yield block


@contextlib.contextmanager
def _behind(write: Callable) -> Iterator[Callable]:
  """Give a function that writes in another thread, one block at a time."""
  with concurrent.futures.ThreadPoolExecutor(1) as writer:
    pending: list[concurrent.futures.Future] = []

    def later(columns) -> None:
      while pending:
        pending.pop().result()
      pending.append(writer.submit(write, columns))

    yield later
    for future in pending:
      future.result()


@contextlib.contextmanager
def _display(total: int | None) -> Iterator[Callable[[int], None]]:
  """Give a function that shows the number of rows: a bar on a terminal, else a line at times."""
  if sys.stderr.isatty():
    from tqdm import tqdm

    with tqdm(total=total, unit=' rows', dynamic_ncols=True, file=sys.stderr, leave=False) as bar:

      def advance(rows: int) -> None:
        bar.update(rows - bar.n)

      yield advance
    return
  from ensdistill.logs.progress import clock, count

  began = last = time.monotonic()

  def update(rows: int) -> None:
    nonlocal last
    now = time.monotonic()
    if now - last < SILENCE:
      return
    last, rate = now, rows / (now - began)
    left = f', {clock(max(total - rows, 0) / rate)} left' if total and rate else ''
    of = f'/{total:,} ({min(100 * rows // total, 100)} %)' if total else ''
    print(f'{rows:,}{of} rows, {count(rate)} rows/s{left}', file=sys.stderr, flush=True)

  yield update
