"""Write a student with smaller weights, and measure what it loses.

The new folder is read like the old one. Weights are float32 again once they are loaded, so a
variant takes less space on disk and in transfer, and is as fast. On the data set of its training
(or --data) it is calibrated again, and NLL and time are measured beside the original.
"""

import pathlib
import sys
from collections.abc import Sequence

from ensdistill.commands.usage import (
  Parser,
  add_imports,
  fail,
  memory_in_one_line,
  reason,
  stoppable,
  student_folder,
)


def _parse(arguments, prog: str):
  about, *more = (__doc__ or '').split('\n\n')
  parser = Parser(prog=prog, description=about, epilog='\n'.join(more))
  parser.add_argument('student', metavar='STUDENT', help="a run's folder, or its folder student")

  def add(name, metavar, help, **settings):
    parser.add_argument(f'--{name}', metavar=metavar, help=help, **settings)

  add('to', 'int8|bfloat16', 'the form of the weights', required=True)
  add('out', 'DIR', 'the new folder (default: STUDENT-int8)')
  add('data', 'NAME', 'the data set to measure on (default: the one it was trained on)')
  add('data_dir', 'DIR', 'the folder of prepared data sets')
  add_imports(parser)
  return parser.parse_args(arguments)


@stoppable
@memory_in_one_line()
def main(arguments: Sequence[str] | None = None, prog: str = 'ensdistill export') -> None:
  """Run the command with its arguments, those of the process by default."""
  options = _parse(arguments, prog)
  from ensdistill import export, runtime
  from ensdistill.commands.evaluate import dataset_of
  from ensdistill.data import DataError
  from ensdistill.student import variants

  runtime.prepare()
  source = student_folder(options.student)
  try:
    model = export.load(source, options.imports)
  except (ValueError, OSError) as error:
    fail(1, reason(error))
  target = pathlib.Path(options.out or source.with_name(f'{source.resolve().name}-{options.to}'))
  try:
    if target.exists() and target.resolve() == source.resolve():
      raise ValueError(f'--out={target} is the student itself: choose another folder')
    if target.is_dir() and any(target.iterdir()) and not (target / 'student.seal').exists():
      raise ValueError(f'{target} holds other files: give a new folder with --out')
    variant = variants.make(model, options.to)
  except (ValueError, OSError) as error:
    fail(2, reason(error))
  lines = []
  try:
    unreadable = model.spec['data_settings'].get('unreadable', 'stop')
    dataset = dataset_of(model, options.data, options.data_dir, unreadable)
    found = variants.loss(model, variant, dataset)
    variant = variants.calibrated(variant, dataset)
    variant.spec['results'] = variants.results(found, options.to)
    lines = table(found, options.to)
  except (ValueError, DataError, OSError) as error:
    if options.data:
      fail(1, reason(error))
    print(f'not measured, and without calibration: {reason(error)}', file=sys.stderr)
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
