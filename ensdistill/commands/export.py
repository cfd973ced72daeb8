"""Write a student for another runtime, or with smaller weights, and check what it predicts.

stablehlo, onnx, savedmodel, tflite: a file that needs no ensdistill, with named outputs. It is
loaded again by its own runtime and compared with the student on test inputs and random ones. A file
whose probabilities differ by more than 1e-4 is not written, and the exit code is 1.

int8, bfloat16: a student's folder whose weights take less space on disk and in transfer; they are
float32 again once they are loaded. It is calibrated again, and NLL and time are measured beside the
original.
"""

import contextlib
import pathlib
import sys
from collections.abc import Iterator, Sequence

from ensdistill.commands.usage import (
  Parser,
  add_imports,
  fail,
  loaded_student,
  memory_in_one_line,
  reason,
  stoppable,
  student_folder,
)

NAMES = 'stablehlo|onnx|savedmodel|tflite|int8|bfloat16'


def _parse(arguments, prog: str):
  about, *more = (__doc__ or '').split('\n\n')
  parser = Parser(prog=prog, description=about, epilog=' '.join(more))
  parser.add_argument('student', metavar='STUDENT', help="a run's folder, or its folder student")

  def add(name, metavar, help, **settings):
    parser.add_argument(f'--{name}', metavar=metavar, help=help, **settings)

  add('to', NAMES, 'the format', required=True)
  add('out', 'PATH', 'the new file or folder (default: beside the student, under its name)')
  add('data', 'NAME', 'the data set to measure on (default: the one it was trained on)')
  add('data_dir', 'DIR', 'the folder of prepared data sets')
  add('batch_size', 'N', 'examples of a call, for a fixed batch (default: any number; savedmodel '
      'and tflite: 1)', type=int)  # fmt: skip
  add_imports(parser)
  options = parser.parse_args(arguments)
  if options.batch_size is not None and options.batch_size < 1:
    parser.error(f'--batch_size={options.batch_size} must be at least 1')
  return options


@stoppable
@memory_in_one_line()
def main(arguments: Sequence[str] | None = None, prog: str = 'ensdistill export') -> None:
  """Run the command with its arguments, those of the process by default."""
  options = _parse(arguments, prog)
  from ensdistill import names, runtime, spec
  from ensdistill.exporting import files

  runtime.prepare()
  try:
    names.check('format', options.to, [*files.FORMATS, *spec.FORMS])
    if options.to in spec.FORMS and options.batch_size:
      raise ValueError(f'--batch_size={options.batch_size} has no effect on --to={options.to}')
  except ValueError as error:
    fail(2, reason(error))
  if options.to in files.FORMATS:
    try:
      files.check_packages(options.to)
    except ValueError as error:
      fail(1, reason(error))
  model = loaded_student(options.student, options.imports)
  if options.to in files.FORMATS:
    _file(model, options)
  else:
    _variant(model, options)


@contextlib.contextmanager
def _measuring(options, note: str) -> Iterator[None]:
  """If the data set cannot be read: exit if the user named it, else print a warning."""
  from ensdistill.data import DataError

  try:
    yield
  except (ValueError, DataError, OSError) as error:
    if options.data:
      fail(1, reason(error))
    print(f'{note}: {reason(error)}', file=sys.stderr)


def _dataset(model, options):
  """Return the data set to measure on."""
  from ensdistill.commands.evaluate import dataset_of

  unreadable = model.spec['data_settings'].get('unreadable', 'stop')
  return dataset_of(model, options.data, options.data_dir, unreadable)


def _beside(folder: pathlib.Path, end: str) -> pathlib.Path:
  """Return the path beside a folder that has its name and an end."""
  place = folder.resolve() if folder.name in ('', '..') else folder
  return place.with_name(f'{folder.resolve().name}{end}')


def _file(model, options) -> None:
  """Write a file for another runtime."""
  from ensdistill.exporting import files, parity

  source = student_folder(options.student)
  suffix = files.FORMATS[options.to].suffix
  target = pathlib.Path(options.out or _beside(source, suffix))
  x = None
  with _measuring(options, 'compared on random inputs alone'):
    x = parity.test_inputs(_dataset(model, options))
  try:
    written = files.write(model, options.to, target, x, options.batch_size)
  except (ValueError, OSError) as error:
    fail(1, f'{target} is not written: {reason(error)}')
  batch = written.facts['batch']
  size = f'batches of {batch}' if batch else 'any number of examples'
  print(f'{target}: {written.size:,} bytes, takes {size}')
  if 'note' in written.facts:
    print(written.facts['note'], file=sys.stderr)
  for line in parity_table(written):
    print(line)


def parity_table(written) -> list[str]:
  """Return the largest differences from the student as lines."""
  kinds = list(written.parity)
  titles = [f'{written.examples[kind]:,} {kind} inputs' for kind in kinds]
  lines = [f'{"largest difference":20}' + ''.join(f'{title:>22}' for title in titles)]
  for name in written.parity[kinds[0]]:
    values = [f'{written.parity[kind][name]:.2g}' for kind in kinds]
    lines.append(f'{name:20}' + ''.join(f'{value:>22}' for value in values))
  return lines


def _variant(model, options) -> None:
  """Write a student's folder with smaller weights."""
  from ensdistill.student import calibration, variants

  source = student_folder(options.student)
  target = pathlib.Path(options.out or _beside(source, f'-{options.to}'))
  try:
    if target.exists() and target.resolve() == source.resolve():
      raise ValueError(f'--out={target} is the student itself: choose another folder')
    is_empty = target.is_dir() and not any(target.iterdir())
    if target.exists() and not is_empty and not variants.is_in(target):
      raise ValueError(
        f'{target} holds something else than a student with smaller weights: give a new folder '
        'with --out'
      )
    variant = variants.make(model, options.to)
  except (ValueError, OSError) as error:
    fail(2, reason(error))
  lines = []
  with _measuring(options, 'not measured, and without calibration'):
    dataset = _dataset(model, options)
    found = variants.loss(model, variant, dataset)
    variant = variant.with_calibration(calibration.of_student(variant, dataset))
    variant.spec['results'] = variants.results(found, options.to)
    lines = table(found, options.to)
  try:
    variant.save(target)
  except OSError as error:
    fail(1, reason(error))
  sizes = [variants.size(folder) for folder in (source, target)]
  print(f'{target}: weights of {sizes[1]:,} bytes instead of {sizes[0]:,} '
        f'({sizes[0] / sizes[1]:.2f} times smaller)')  # fmt: skip
  for line in lines:
    print(line)


def table(found, form: str) -> list[str]:
  """Return the measured losses as lines."""
  lines = [f'on {found.examples:,} test examples {"float32":>18}{form:>18}{"difference":>14}']
  for key, (before, after) in found.metrics.items():
    if key.endswith('/spread') or key in ('params', 'flops'):
      continue
    spread = found.metrics.get(f'{key}/spread')
    texts = [f'{value:.5g}' for value in (before, after)]
    if spread:
      texts = [f'{text} ± {error:.2g}' for text, error in zip(texts, spread)]
    lines.append(f'{key:28}{texts[0]:>18}{texts[1]:>18}{after - before:>+14.3g}')
  lines.append(f'largest difference of a prediction {found.largest:.3g}')
  return lines
