"""Evaluate a finished student on any data, without training.

Prints a table and, with --out, writes the metrics under the names of results.json. Exit codes: 2
for wrong usage, 1 for missing or damaged data; both with one line that says what is wrong.
"""

import dataclasses
import json
import pathlib
import time
from collections.abc import Sequence

from ensdistill import paths
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

# Settings of the training data that another set is read with, too.
_READING = ('target', 'family', 'size', 'central')


def _parse(arguments, prog: str):
  parser = Parser(prog=prog, description=(__doc__ or '').split('\n')[0])

  def add(name, metavar, help, **settings):
    parser.add_argument(f'--{name}', metavar=metavar, help=help, **settings)

  add('student', 'DIR', "a run's folder named student, or the run's folder itself", required=True)
  add('data', 'NAME', 'the data set to test on (default: the one it was trained on)')
  add('data_dir', 'DIR', 'the folder of prepared data sets')
  add('ood', 'A,B', 'out-of-distribution sets, default or none', default='default')
  add('shift', 'A,B', 'corruptions of the test set, default, all or none', default='default')
  add('unreadable', 'stop|skip', 'images that cannot be read (default: as in training)')
  add('shift_examples', 'N', 'number of test examples to corrupt', type=int, default=500)
  add('batch_size', 'N', 'examples of one block', type=int, default=500)
  help_of_labels = 'a .npy file [N, K]: a distribution over the classes for each test example'
  add('label-distributions', 'FILE', help_of_labels)
  add(
    'teacher', 'DIR', 'for --label-distributions: folder of the ensemble (default: beside the run)'
  )
  add_imports(parser)
  add('out', 'FILE', 'the JSON file to write')
  options = parser.parse_args(arguments)
  for name in ('shift_examples', 'batch_size'):
    if getattr(options, name) < 1:
      parser.error(f'--{name}={getattr(options, name)} must be at least 1')
  for name in ('student', 'data_dir', 'label_distributions', 'teacher', 'out'):
    try:
      paths.check(f'--{name}', getattr(options, name))
    except ValueError as error:
      fail(2, str(error))
  if options.teacher and not options.label_distributions:
    parser.error('--teacher is for --label-distributions=FILE')
  return options


@stoppable
@memory_in_one_line()
def main(
  arguments: Sequence[str] | None = None, prog: str = 'python -m ensdistill.evaluate'
) -> None:
  """Run the command with its arguments, those of the process by default."""
  options = _parse(arguments, prog)
  from ensdistill import runtime
  from ensdistill.data import DataError
  from ensdistill.storage import safe

  runtime.prepare()
  model = loaded_student(options.student, options.imports)
  try:
    if options.out:
      safe.make_folder(pathlib.Path(options.out).parent)
    results = evaluate(model, options)
    if options.out:
      text = json.dumps(results, indent=2, allow_nan=False)
      safe.write_atomic(options.out, text + '\n')
  except ValueError as error:
    fail(2, str(error))
  except (DataError, OSError) as error:
    fail(1, reason(error))
  print(table(results))


def dataset_of(model, name: str | None = None, dir: str | None = None, unreadable: str = 'stop'):
  """Return the data set that a student is tested on: that of its training, or another by name.

  Another set is read with the same settings, where it has them.
  """
  from ensdistill import data
  from ensdistill.student.tables import listed

  spec = model.spec
  settings = spec['data_settings'] | {'unreadable': unreadable}
  if name not in (None, spec['data']):
    known = {'unreadable', *set(_READING).intersection(data.sources.settings_of(name, dir))}
    settings = {key: value for key, value in settings.items() if key in known}
    if name.startswith('folder:'):
      settings.setdefault('size', spec['shape'][0])
  dataset = data.load(name or spec['data'], dir=dir, **settings)
  if (dataset.family, dataset.targets) != (spec['family'], spec['targets']):
    raise ValueError(
      f'{dataset.name} has {dataset.targets} targets ({dataset.family}), the student predicts '
      f'{spec["targets"]} ({spec["family"]})'
    )
  if dataset.classes and spec['classes'] and list(dataset.classes) != spec['classes']:
    ours, theirs = next(pair for pair in zip(dataset.classes, spec['classes']) if len({*pair}) > 1)
    raise ValueError(
      f'{dataset.name} has class {ours!r} where the student was trained on {theirs!r}: its classes '
      'must have the same names in the same order'
    )
  columns = (spec.get('inputs') or {}).get('columns')
  if columns and dataset.columns and list(dataset.columns) != columns:
    raise ValueError(
      f'{dataset.name} has the columns {listed(dataset.columns)}, the student was trained on '
      f'{listed(columns)}: they must have the same names in the same order'
    )
  shape = tuple(spec['shape'])
  if dataset.shape != shape and not len(dataset.shape) == len(shape) == 3:
    raise ValueError(
      f'{dataset.name} has inputs of shape {dataset.shape}, the student takes {shape}'
    )
  if dataset.shape == shape:
    return dataset

  def fit(split):
    return data.Split(data.stored.fit(split.x, shape), split.y)

  train = fit(data.Split(dataset.train.x[:1], dataset.train.y[:1]))  # for its shape alone
  return dataclasses.replace(dataset, train=train, valid=fit(dataset.valid), test=fit(dataset.test))


def evaluate(model, options) -> dict:
  """Return results.json of one row; `options` are the command's."""
  from ensdistill import runtime
  from ensdistill.commands import label_distributions
  from ensdistill.evaluation import comparison, sets
  from ensdistill.evaluation.networks import Network
  from ensdistill.evaluation.rows import STUDENT
  from ensdistill.logs import writers
  from ensdistill.storage.seals import strict

  began = time.monotonic()
  trained, dir = model.spec['data_settings'], options.data_dir
  unreadable = options.unreadable or trained.get('unreadable', 'stop')
  dataset = dataset_of(model, options.data, dir, unreadable)
  wanted = comparison.Wanted(
    reading={'dir': dir, 'seed': trained['seed'], 'unreadable': unreadable},
    ood=options.ood,
    shift=options.shift,
    shift_examples=options.shift_examples,
    batch=options.batch_size,
  )
  sets.check(dataset, ood=options.ood, shifts=options.shift, dir=dir)
  against, folder = None, student_folder(options.student)
  if options.label_distributions:
    against = label_distributions.prepared(model, folder, dataset, options)

  def networks(batch: int):
    student = Network(STUDENT, model.student.size, model.predictor(batch), model.variables)
    return None, [student]

  compared = comparison.compare(dataset, networks, wanted, writers.Silent())
  (student,) = compared.models
  human = {}
  if against:
    own = label_distributions.measured(
      against, student.name, student.repeats[0]['test'], dataset.test.x
    )
    human = {'label_distributions': own}
  return strict(
    {
      'name': model.spec['name'],
      'data': dataset.name,
      'family': dataset.family,
      'examples': compared.examples,
      'rows': compared.rows,
      **human,
      'not_run': compared.not_run,
      'timings': {'evaluation': time.monotonic() - began},
      'versions': runtime.versions(),
    }
  )


def table(results: dict) -> str:
  """Return metrics of the test set, the costs, and a line for each foreign set and corruption."""
  from ensdistill.report import columns

  found, errors = dict(results['rows'][0]['metrics']), results['rows'][0]['test_se']
  costs = {column.title: (column, found.pop(column.key, None)) for column in columns.COST}
  title = f'{results["name"]} on {results["data"]}, {results["examples"]["test"]} test examples'
  lines = [title, '-' * len(title)]
  for key, value in found.items():
    if '/' not in key:
      error = f' ± {errors[key]:.2g}' if errors.get(key) else ''
      lines.append(f'{key:22}{_number(value)}{error}')
  if errors:
    lines.append('±: one standard error, from the test examples')
  lines += [f'{t:22}{c.form(value)}' for t, (c, value) in costs.items() if value is not None]
  split = [(*key.rsplit('/', 1), value) for key, value in found.items()]
  for prefix, keys in (
    ('ood/', ('auroc_total', 'auroc_knowledge', 'fpr95_total', 'knowledge')),
    ('shift/', ('acc', 'rmse', 'nll', 'ece', 'knowledge')),
  ):
    lines_of: dict[str, dict] = {}
    for name, key, value in (entry for entry in split if len(entry) == 3):
      if name.startswith(prefix) and key in keys:
        lines_of.setdefault(name, {})[key] = value
    if lines_of:
      keys = [key for key in keys if key in next(iter(lines_of.values()))]
      lines += ['', f'{"":34}' + ''.join(f'{key:>16}' for key in keys)]
      lines += [
        f'{name:34}' + ''.join(f'{_number(row.get(key)):>16}' for key in keys)
        for name, row in lines_of.items()
      ]
  lines += list(filter(None, [columns.shift_note([found])]))
  if 'label_distributions' in results:
    from ensdistill.commands import label_distributions

    lines += label_distributions.lines(results['label_distributions'])
  lines += [f'not run: {name}: {reason}' for name, reason in results['not_run'].items()]
  return '\n'.join(lines)


def _number(value) -> str:
  from ensdistill.report import columns

  return '-' if value is None else columns.significant(5)(value)
