"""python -m ensdistill.data NAME: what a data set is, and a sheet of examples as networks see them.

  python -m ensdistill.data cifar10 --crop=4 --flip
  python -m ensdistill.data folder:tiny-imagenet-200 --dir=~/data --size=64
  python -m ensdistill.data csv:wine.csv --target=quality --out=wine.png

Flags are the settings of the configuration's `data` and `augment` sections. Exit codes: 2 for wrong
usage, 1 for missing or damaged data; both with one line that says why.
"""

import inspect
import re

import numpy as np

from ensdistill.commands.usage import Parser, fail

_PARTS = {'train': 'training', 'valid': 'validation', 'test': 'test'}
_ROWS, _COLUMNS = 10, 8  # of the sheet: classes, and examples of each


def main(argv=None):
  import matplotlib

  from ensdistill import data, runtime
  from ensdistill.report.figures import examples, style
  from ensdistill.storage import safe

  arguments = _parse(argv)
  own = lambda *builders: {name: getattr(arguments, name) for name in _settings(builders)}
  given = lambda *builders: {k: v for k, v in own(*builders).items() if v is not None}
  runtime.prepare()
  try:
    augment = data.augment.make(**given(data.augment.make))
    area = data.windows.crops(**given(data.windows.crops))
    common = {name: getattr(arguments, name) for name in ('dir', 'valid', 'limit', 'split', 'seed')}
    where = {'stream': arguments.stream, 'crops': bool(area)}
    settings = given(*data.CONFIGURED.values())
    try:
      dataset = data.load(arguments.name, **where, **common, **settings)
    except data.InputsOnly:
      common = {name: common[name] for name in ('dir', 'split', 'seed')}
      dataset = data.loading.every_input(arguments.name, crops=bool(area), **common, **settings)
    labelled = isinstance(dataset, data.Dataset)
    print(describe(dataset) if labelled else describe_inputs(dataset))
    with matplotlib.rc_context(style.SETTINGS):
      if len(dataset.shape) == 3:
        choice = _choice(dataset, arguments.seed) if labelled else _any(dataset, arguments.seed)
        seen = _seen(*choice, augment, area, arguments.seed)
        figure = examples.images(*seen, _title(dataset))
      else:
        x, y = dataset.train if labelled else (next(iter(dataset.parts.values())), None)
        figure = examples.columns(x, y, dataset, _title(dataset))
    out = arguments.out or re.sub(r'\W+', '_', arguments.name).strip('_') + '.png'
    safe.write_atomic(out, style.png(figure, limit=3_000_000))
  except ValueError as error:
    fail(2, str(error))
  except (data.DataError, OSError) as error:
    fail(1, str(error))
  print(f'{"examples":12}{out}')


def _parse(argv):
  from ensdistill import data

  parser = Parser(
    prog='python -m ensdistill.data', description=__doc__.split('\n')[0], allow_abbrev=False
  )
  parser.add_argument('name', metavar='NAME', help='digits, cifar10, folder:DIR, csv:FILE, ...')

  def add(name, help, **settings):
    parser.add_argument(f'--{name}', help=help, **settings)

  add('dir', 'the folder of data sets', metavar='DIR')
  add('out', 'the PNG file to write (default: by the name)', metavar='FILE')
  add('valid', 'training examples kept for validation', metavar='N', type=int)
  add('limit', 'at most so many examples of each part', metavar='N', type=int, default=0)
  add('split', 'which way of cutting it', metavar='N', type=int, default=0)
  add('seed', 'of all that is drawn', metavar='N', type=int, default=0)
  add('stream', 'auto, on or off', default='auto')
  for section, builders in (
    ('data', data.CONFIGURED.values()),
    ('augment', (data.augment.make, data.windows.crops)),
  ):
    for name, default in _settings(builders).items():
      kind = {'action': 'store_const', 'const': True}
      if not isinstance(default, bool):
        kind = {'type': type(default), 'metavar': type(default).__name__.upper()}
      add(name, f'the setting {section}.{name}', **kind)
  return parser.parse_args(argv)


def _settings(builders) -> dict:
  """The keyword settings of all builders, with their defaults."""
  parameters = [p for b in builders for p in inspect.signature(b).parameters.values()]
  return {p.name: p.default for p in parameters if p.default is not p.empty}


def describe(dataset) -> str:
  """Counts, shapes, balance of the classes, constants, and where it lies."""
  lines = [dataset.name, '-' * len(dataset.name)]
  add = lambda title, text: lines.append(f'{title:12}{text}')
  for part, title in _PARTS.items():
    x = getattr(dataset, part).x
    add(title, f'{len(x):,} examples, {_bytes(x.nbytes)}')
  add('inputs', f'{_shape(dataset)}, {dataset.train.x.dtype}')
  if dataset.family == 'categorical':
    _add_classes(add, dataset)
  else:
    add('targets', f'{dataset.targets}, mean {_numbers(dataset.target_mean)}, deviation '
        f'{_numbers(dataset.target_std)}')  # fmt: skip
  _add_moments(add, dataset)
  stays = 'in memory, as a whole on the device'
  if not isinstance(dataset.train.x, np.ndarray):
    stays = 'in its files, decoded batch by batch'
  elif dataset.streams:
    stays = 'in memory, on the device batch by batch'
  add('from', dataset.where)
  add('stays', stays)
  add('fingerprint', dataset.fingerprint[:16])
  if dataset.unused:
    add('not used', dataset.unused)
  if dataset.skipped:
    add('skipped', f'{len(dataset.skipped)} image(s), the first: {dataset.skipped[0]}')
  return '\n'.join(lines)


def describe_inputs(inputs) -> str:
  """The same of a set without labels."""
  lines = [inputs.name, '-' * len(inputs.name)]
  add = lambda title, text: lines.append(f'{title:12}{text}')
  for part, x in inputs.parts.items():
    add(_PARTS[part], f'{len(x):,} examples, {_bytes(x.nbytes)}')
  add('inputs', f'{_shape(inputs)}, {next(iter(inputs.parts.values())).dtype}')
  add('targets', 'none: it can serve as inputs, not be trained on')
  _add_moments(add, inputs)
  add('from', inputs.where)
  skipped = [reason for x in inputs.parts.values() for reason in getattr(x, 'skipped', ())]
  if skipped:
    add('skipped', f'{len(skipped)} image(s), the first: {skipped[0]}')
  return '\n'.join(lines)


def _add_moments(add, dataset) -> None:
  """Mean and deviation, and which examples they are of."""
  of = f' (of {dataset.sampled:,} examples)' if dataset.sampled else ''
  add('mean', _numbers(dataset.mean) + of)
  add('deviation', _numbers(dataset.std) + of)


def _add_classes(add, dataset) -> None:
  """How many classes, and those with the fewest and the most training examples."""
  counts = np.bincount(dataset.train.y, minlength=dataset.targets)
  order = np.argsort(counts, kind='stable')
  name = lambda k: f'{dataset.classes[k] if dataset.classes else k} ({counts[k]:,})'
  if counts.min() == counts.max():
    add('classes', f'{dataset.targets}, of {counts.min():,} training examples each')
  else:
    add('classes', f'{dataset.targets}, of {counts.min():,} to {counts.max():,} training examples')
    add('  fewest', ', '.join(map(name, order[:4])))
    add('  most', ', '.join(map(name, order[::-1][:4])))
  largest = counts.max() / counts.sum()
  add('  largest', f'{100 * largest:.1f} % of the training examples')


def _title(dataset) -> str:
  """Above the sheet."""
  name = dataset.name if len(dataset.name) <= 40 else '…' + dataset.name[-39:]
  if len(dataset.shape) == 3:
    return f'{name}: {_shape(dataset)}, in [0, 1]'
  return f'{name}: mean 0, deviation 1'


def _shape(dataset) -> str:
  return ' x '.join(map(str, dataset.shape))


def _numbers(values, most: int = 8) -> str:
  shown = ' '.join(f'{value:.4g}' for value in values[:most])
  return shown + (f' ... ({len(values)})' if len(values) > most else '')


def _bytes(size: int) -> str:
  for unit in ('bytes', 'KiB', 'MiB', 'GiB'):
    if size < 1024 or unit == 'GiB':
      return f'{size:,.0f} {unit}' if unit == 'bytes' else f'{size:,.1f} {unit}'
    size /= 1024


def _choice(dataset, seed: int):
  """Training images, which rows of them are shown, one row of the sheet a class, and its title."""
  x, y = dataset.train
  order = np.random.RandomState(seed).permutation(len(y))
  chosen = np.linspace(0, dataset.targets - 1, min(_ROWS, dataset.targets)).round().astype(int)
  of_class = [order[y[order] == k][:_COLUMNS] for k in chosen]
  return x, of_class, [dataset.classes[k] if dataset.classes else str(k) for k in chosen]


def _any(inputs, seed: int):
  """The same of a set without classes: its test images as they come."""
  x = next(iter(inputs.parts.values()))
  order = np.random.RandomState(seed).permutation(len(x))[: _ROWS // 2 * _COLUMNS]
  rows = [order[i : i + _COLUMNS] for i in range(0, len(order), _COLUMNS)]
  return x, rows, [''] * len(rows)


def _seen(x, rows, titles, augment, area: float, seed: int):
  """Rows of images in [0, 1], augmented, and their titles."""
  import jax

  from ensdistill import data

  every = np.concatenate(rows)
  if area and isinstance(x, np.ndarray):
    raise ValueError(f'augment.crop_area={area} is for images in files: set augment.crop_area=0')
  if area:
    images = x.read(every, data.windows.random_windows(x.form, area, len(every), seed))
  else:
    images = x[every]
  images = data.as_input(images)
  if augment:
    images = augment(jax.random.key(seed), images)
  return np.split(np.asarray(images), np.cumsum([len(row) for row in rows])[:-1]), titles
