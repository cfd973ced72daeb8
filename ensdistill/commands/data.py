"""Describe a data set and draw a sheet of its examples as networks see them.

  python -m ensdistill.data cifar10 --crop=4 --flip
  python -m ensdistill.data folder:tiny-imagenet-200 --dir=~/data --size=64
  python -m ensdistill.data csv:wine.csv --target=quality --out=wine.png

Flags are settings of the configuration's `data` and `augment` sections, without mixup. Exit codes:
2 for wrong usage, 1 for missing or damaged data, each with one line that says why.
"""

import pathlib
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from ensdistill.commands.usage import Parser, fail, memory_in_one_line, reason, stoppable

_PARTS = {'train': 'training', 'valid': 'validation', 'test': 'test'}
_ROWS, _COLUMNS = 10, 8  # of the sheet: classes, and examples of each
_NAMES = 12  # classes that are named
_SKIPPED = 20  # images that are named


@stoppable
@memory_in_one_line()
def main(arguments: Sequence[str] | None = None, prog: str = 'python -m ensdistill.data') -> None:
  """Run the command with its arguments, those of the process by default."""
  from ensdistill import data, paths, runtime
  from ensdistill.config import settings
  from ensdistill.storage import safe

  options = _parse(arguments, prog)
  runtime.prepare()
  try:
    paths.check('--dir', options.dir)
    paths.check('--out', options.out)
    augment = settings.build_each(vars(options), _augmentations())
    images, area = augment['images'], augment['files']
    dataset = _load(options, crops=bool(area))
    out = options.out or re.sub(r'\W+', '_', options.name).strip('_') + '.png'
    safe.make_folder(pathlib.Path(out).parent)
    print(describe(dataset) if isinstance(dataset, data.Dataset) else describe_inputs(dataset))
    safe.write_atomic(out, _sheet(dataset, images, area, options.seed))
  except ValueError as error:
    fail(2, _with_flags(str(error)))
  except (data.DataError, OSError) as error:
    fail(1, _with_flags(reason(error)))
  print(f'{"examples":12}{out}')


def _with_flags(text: str) -> str:
  """Return a message with 'set data.size' as 'set --size', which this command takes."""
  return re.sub(r"\bset (?:data|augment)\.(\w+)(='(\w+)')?", _flag, text)


def _flag(found: re.Match) -> str:
  return f'set --{found[1]}' + (f'={found[3]}' if found[3] else '')


def _parse(arguments, prog: str):
  from ensdistill import data
  from ensdistill.config import settings

  parser = Parser(prog=prog, description=(__doc__ or '').split('\n')[0])
  parser.add_argument('name', metavar='NAME', help=', '.join(data.sources.NAMES))

  def add(name, help, **options):
    parser.add_argument(f'--{name}', help=help, **options)

  add('dir', 'the folder of data sets', metavar='DIR')
  add('out', 'the PNG file to write (default: made from the name)', metavar='FILE')
  add('valid', 'number of training examples for validation', metavar='N', type=int)
  add('limit', 'largest number of examples of each part', metavar='N', type=int, default=0)
  add('split', "which of the set's own ways to split it", metavar='N', type=int, default=0)
  add('seed', 'the seed of all random numbers', metavar='N', type=int, default=0)
  add('stream', 'auto, on or off', default='auto')
  for section, builders in (
    ('data', data.CONFIGURED),
    ('augment', _augmentations()),
  ):
    for name, field in settings.optional(builders).items():
      kind = field.get_type()
      options = {'type': kind, 'metavar': kind.__name__.upper()}
      if kind is bool:
        options = {'action': 'store_const', 'const': True}
      add(name, f'the setting {section}.{name}', **options)
  return parser.parse_args(arguments)


def _augmentations() -> dict[str, Any]:
  """Return what changes single images; the sheet shows no mixtures, as each row is one class."""
  from ensdistill.config import settings

  return {name: settings.AUGMENT[name] for name in ('images', 'files')}


def _load(options, *, crops: bool):
  """Return the data set, or its inputs if it cannot be trained on."""
  from ensdistill import data
  from ensdistill.config import settings

  reading = settings.given(vars(options), data.CONFIGURED)
  reading |= {'dir': options.dir, 'seed': options.seed, 'split': options.split}
  try:
    return data.load(
      options.name,
      valid=options.valid,
      limit=options.limit,
      stream=options.stream,
      crops=crops,
      **reading,
    )
  except data.InputsOnly:
    return data.load_unlabelled(options.name, crops=crops, **reading)


def describe(dataset) -> str:
  """Return counts, shapes, balance of the classes, constants, and the place of a data set."""
  from ensdistill import families, memory

  lines = [*_heading(dataset.name)]
  for part, title in _PARTS.items():
    x = getattr(dataset, part).x
    lines.append(_line(title, f'{len(x):,} examples, {memory.text(x.nbytes)}'))
  sizes = {origin.part: origin.size for origin in dataset.rows.values()}
  counts = ', '.join(f'{size:,} {_PARTS[part]}' for part, size in sizes.items())
  lines.append(_line('source', f'{counts} examples, before validation and --limit'))
  lines.append(_line('inputs', f'{_shape(dataset)}, {dataset.train.x.dtype}'))
  if families.FAMILIES[dataset.family].has_classes:
    lines += _classes(dataset)
  else:
    of = f'mean {_numbers(dataset.target_mean)}, deviation {_numbers(dataset.target_std)}'
    lines.append(_line('targets', f'{dataset.targets}, {of}'))
  lines += _moments(dataset)
  stays = 'in memory, as a whole on the device'
  if dataset.in_files:
    stays = 'in its files, decoded batch by batch'
  elif dataset.streams:
    stays = 'in memory, on the device batch by batch'
  lines.append(_line('from', dataset.where))
  lines.append(_line('stays', stays))
  lines.append(_line('fingerprint', dataset.fingerprint[:16]))
  if dataset.unused:
    lines.append(_line('not used', dataset.unused))
  return '\n'.join(lines + _skipped(dataset.skipped))


def describe_inputs(inputs) -> str:
  """Return the description of a data set without labels."""
  from ensdistill import memory
  from ensdistill.data import stored

  lines = [*_heading(inputs.name)]
  for part, x in inputs.parts.items():
    lines.append(_line(_PARTS[part], f'{len(x):,} examples, {memory.text(x.nbytes)}'))
  lines.append(_line('inputs', f'{_shape(inputs)}, {inputs.first.dtype}'))
  lines.append(_line('targets', 'none: use it as inputs only'))
  lines += _moments(inputs)
  lines.append(_line('from', inputs.where))
  return '\n'.join(lines + _skipped(stored.skipped(inputs.parts.values())))


def _heading(name: str) -> list[str]:
  return [name, '-' * len(name)]


def _line(title: str, text: str) -> str:
  return f'{title:12}{text}'


def _skipped(reasons) -> list[str]:
  if not reasons:
    return []
  lines = [_line('skipped', f'{len(reasons)} image(s), the first: {reasons[0]}')]
  lines += [_line('', text) for text in reasons[1:_SKIPPED]]
  rest = len(reasons) - _SKIPPED
  return [*lines, _line('', f'and {rest:,} more')] if rest > 0 else lines


def _moments(dataset) -> list[str]:
  """Return mean and deviation, and the number of examples if they are estimated."""
  of = f' (of {dataset.sampled:,} examples)' if dataset.sampled else ''
  return [
    _line('mean', _numbers(dataset.mean) + of),
    _line('deviation', _numbers(dataset.std) + of),
  ]


def _classes(dataset) -> list[str]:
  """Return the number of classes, their names, and their numbers of training examples."""
  counts = np.bincount(dataset.train.y, minlength=dataset.targets)
  order = np.argsort(counts, kind='stable')
  known = dataset.classes or range(dataset.targets)
  names = [f'{name} ({count:,})' for name, count in zip(known, counts)]
  if counts.min() == counts.max():
    shown = f'{counts.min():,} training examples each'
  else:
    shown = f'{counts.min():,} to {counts.max():,} training examples each'
  lines = [_line('classes', f'{dataset.targets}, {shown}')]
  if counts.min() != counts.max() and dataset.targets > _NAMES:
    lines.append(_line('  fewest', ', '.join(names[k] for k in order[:4])))
    lines.append(_line('  most', ', '.join(names[k] for k in order[::-1][:4])))
  if dataset.classes or dataset.targets <= _NAMES:
    rest = dataset.targets - _NAMES
    more = f' and {rest:,} more' if rest > 0 else ''
    every = [f'{k} {name}' if dataset.classes else name for k, name in enumerate(names[:_NAMES])]
    lines.append(_line('  labels', ', '.join(every) + more))
  share = 100 * counts.max() / counts.sum()
  return [*lines, _line('  largest', f'{share:.1f} % of the training examples')]


def _shape(dataset) -> str:
  return ' x '.join(map(str, dataset.shape))


def _numbers(values, most: int = 8) -> str:
  shown = ' '.join(f'{value:.4g}' for value in values[:most])
  return shown + (f' ... ({len(values)})' if len(values) > most else '')


def _sheet(dataset, augment, area: float, seed: int) -> bytes:
  """Return a PNG picture: images by class, or the distribution of every column of a table."""
  import matplotlib

  from ensdistill import data
  from ensdistill.report.figures import examples, style

  labelled = isinstance(dataset, data.Dataset)
  settings: Any = style.SETTINGS
  name = dataset.name if len(dataset.name) <= 40 else '…' + dataset.name[-39:]
  with matplotlib.rc_context(settings):
    if len(dataset.shape) == 3:
      x, rows, titles = _by_class(dataset, seed) if labelled else _in_rows(dataset, seed)
      images = _seen(x, rows, augment, area, seed)
      figure = examples.images(images, titles, f'{name}: {_shape(dataset)}, in [0, 1]')
    else:
      x, y = dataset.train if labelled else (dataset.first, None)
      figure = examples.columns(x, y, dataset, f'{name}: mean 0, deviation 1')
    return style.png(figure, limit=3_000_000)


def _by_class(dataset, seed: int):
  """Return training images, the rows shown of each class, and the names of these classes."""
  x, y = dataset.train
  order = np.random.RandomState(seed).permutation(len(y))
  chosen = np.linspace(0, dataset.targets - 1, min(_ROWS, dataset.targets)).round().astype(int)
  of_class = [order[y[order] == k][:_COLUMNS] for k in chosen]
  return x, of_class, [dataset.classes[k] if dataset.classes else str(k) for k in chosen]


def _in_rows(inputs, seed: int):
  """Return the images of a set without classes, seeded rows to show, and empty titles."""
  x = inputs.first
  order = np.random.RandomState(seed).permutation(len(x))[: _ROWS // 2 * _COLUMNS]
  rows = [order[i : i + _COLUMNS] for i in range(0, len(order), _COLUMNS)]
  return x, rows, [''] * len(rows)


def _seen(x, rows, augment, area: float, seed: int) -> list[np.ndarray]:
  """Return rows of images in [0, 1], cropped and augmented as in training."""
  import jax

  from ensdistill import data

  every = np.concatenate(rows)
  if area and not data.stored.in_files(x):
    raise ValueError(f'--crop_area={area} needs images in files: leave it out')
  if area:
    images = x.read(every, data.windows.random_windows(x.form, area, len(every), seed))
  else:
    images = x[every]
  images = data.as_input(images)
  if augment:
    images = augment(jax.random.key(seed), images)
  return np.split(np.asarray(images), np.cumsum([len(row) for row in rows])[:-1])
