"""What an evaluation looks at: labelled, out-of-distribution and shifted inputs, by name.

A set that is asked for and not at hand is no error: it is named in `not_run` with the reason.
"""

import pathlib
import re
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from ensdistill import data, names
from ensdistill.data import checks, shift, sources
from ensdistill.data.images import sizes
from ensdistill.data.sources import prepared, records

# Out of distribution for any table: made of its own test inputs.
OUTSIDE = 'outside'
DEFAULT_SHIFTS = ('gaussian_noise', 'defocus_blur', 'contrast', 'rotation')
# A shifted set that is stored: what it is called before its severity.
_STORED = re.compile(r'(tfds|npz):(.+)_([1-5])(\.npz)?')
# All forms of one that is prepared, such as tfds:cifar10_corrupted.
_ALL_FORMS = re.compile(r'tfds:([^/:]+)')


class Shifted(NamedTuple):
  """Test examples under one corruption."""

  kind: str
  severity: int
  x: np.ndarray
  y: np.ndarray


def check(dataset, *, ood: str, shifts: str, dir: str | None = None) -> None:
  """Refuses names that no data set or corruption has, before anything is computed."""
  for name in ood_names(dataset, ood):
    if name == OUTSIDE:
      continue
    try:
      sources.find(sources.Request(name, dir, 0, shape=dataset.shape), {})
    except data.DataError:
      pass  # not at hand, which `not_run` will say
  shift_names(dataset, shifts, dir)


def ood_names(dataset, wanted: str) -> list[str]:
  """Names of 'a,b', of 'default' (what its data set has; of other tables 'outside'), of 'none'."""
  is_table = len(dataset.shape) == 1
  default = data.OOD_DEFAULTS.get(dataset.name, (OUTSIDE,) if is_table else ())
  found = _expand(wanted, {'none': (), 'default': default})
  if OUTSIDE in found and not is_table:
    raise ValueError(
      f'evaluate.ood={wanted!r}: {OUTSIDE!r} moves columns of a table, but {dataset.name} holds '
      'images: name other sets'
    )
  return found


def outside(dataset, seed: int = 0) -> np.ndarray:
  """Test inputs of a table, each with one column outside the range of the training split.

  Which column, on which side and how far beyond (half to all of its range) is drawn; a column that
  is constant stays.
  """
  low, high = dataset.train.x.min(0), dataset.train.x.max(0)
  varying = np.flatnonzero(high > low)
  if not len(varying):
    raise data.DataError(f'no column of {dataset.name} varies: there is no range to be outside of')
  x, random = dataset.test.x.copy(), np.random.RandomState(seed)
  row, column = np.arange(len(x)), random.choice(varying, len(x))
  step = random.uniform(0.5, 1, len(x)) * (high - low)[column]
  up = random.random_sample(len(x)) < 0.5
  x[row, column] = np.where(up, high[column] + step, low[column] - step)
  return x


def shift_names(dataset, wanted: str, dir: str | None = None) -> list[str]:
  """Kinds of corruption and stored sets; of tables there are none by default.

  tfds:NAME stands for all of its forms that are prepared; where none is, it stays as it is.
  """
  is_images = len(dataset.shape) == 3
  presets = {'none': (), 'all': shift.SHIFTS, 'default': DEFAULT_SHIFTS if is_images else ()}
  found = _expand(wanted, presets)
  found = [form for name in found for form in _forms(name, dir) or [name]]
  for name in found:
    if ':' not in name:
      names.lookup('shift', name, shift.SHIFTS)
    elif not (_STORED.fullmatch(name) or _ALL_FORMS.fullmatch(name)):
      raise ValueError(
        f'shifted set {name!r} must end in its severity, _1 to _5, as in '
        'tfds:cifar10_corrupted/fog_3, or name a whole collection: tfds:cifar10_corrupted'
      )
  if found and not is_images:
    raise ValueError(
      f'evaluate.shift={wanted!r} corrupts images, but {dataset.name} holds tables: set '
      "evaluate.shift='none'"
    )
  return found


def _forms(name: str, dir: str | None) -> list[str]:
  """tfds:NAME -> tfds:NAME/KIND_SEVERITY of every form that is prepared, in order."""
  collection = _ALL_FORMS.fullmatch(name)
  if not collection:
    return []
  forms = sorted(p.name for p in (prepared.root(dir) / collection[1]).glob('*_[1-5]'))
  return [f'{name}/{form}' for form in forms if prepared.exists(f'{collection[1]}/{form}', dir)]


def _expand(wanted: str, presets) -> list[str]:
  parts = [part.strip() for part in wanted.split(',')]
  expanded = [name for part in parts if part for name in presets.get(part, (part,))]
  return list(dict.fromkeys(expanded))


def inputs(dataset, wanted: str, not_run: dict, *, seed=0, **reading) -> dict[str, np.ndarray]:
  """{'valid', 'test', 'ood/<set>', ...: inputs}; as many of a foreign set as there are to test.

  `reading` is how a foreign set is read (see data.load_inputs).
  """
  found = {'valid': dataset.valid.x, 'test': dataset.test.x}
  for name in ood_names(dataset, wanted):
    try:
      if name == OUTSIDE:
        found[f'ood/{name}'] = outside(dataset, seed)
        continue
      found[f'ood/{name}'] = data.load_inputs(
        name, shape=dataset.shape, limit=len(dataset.test.x), seed=seed, **reading
      )
    except (data.DataError, ValueError) as error:
      not_run[f'ood/{name}'] = str(error)
  return found


def predicted(predict, inputs: dict, not_run: dict) -> dict:
  """{set: predict(inputs)}; a foreign set that turns out to be damaged is named in `not_run`."""
  found = {}
  for name, x in inputs.items():
    try:
      found[name] = predict(x)
    except data.DataError as error:
      if not name.startswith('ood/'):
        raise
      not_run[name] = str(error)
  return found


def shifted(
  dataset,
  wanted: str,
  not_run: dict,
  *,
  examples: int,
  dir=None,
  seed=0,
  unreadable='stop',
) -> Iterator[Shifted]:
  """One corrupted set after the other (all at once may be large), the same examples in each."""
  chosen = _choice(len(dataset.test.x), examples, seed)
  x, y = dataset.test.x[chosen], dataset.test.y[chosen]
  for name in shift_names(dataset, wanted, dir):
    if _ALL_FORMS.fullmatch(name):
      not_run[f'shift/{name}'] = _remedy(name, dir)
      continue
    if ':' not in name:
      for severity in shift.SEVERITIES:
        yield Shifted(name, severity, shift.apply(name, severity, x, seed), y)
      continue
    try:
      stored_x, stored_y = _stored(name, dataset, dir, seed, unreadable)
      chosen = _choice(len(stored_x), examples, seed)
      stored_x = stored_x[chosen]
    except (data.DataError, ValueError) as error:
      not_run[f'shift/{name}'] = str(error)
      continue
    yield Shifted(*_kind_and_severity(name), stored_x, stored_y[chosen])


def _remedy(name: str, dir) -> str:
  """What prepares all forms of a collection."""
  folder, collection = prepared.root(dir), _ALL_FORMS.fullmatch(name)[1]
  return (
    f'{collection!r} is not prepared: {folder / collection} holds no form of it. Fill it with: '
    "pip install 'ensdistill[tf]' && python -c \"import tensorflow_datasets as tfds; "
    f"[tfds.builder(f'{collection}/{{form}}', data_dir='{folder}').download_and_prepare("
    f"file_format='{records.FORMAT}') for form in tfds.builder_cls('{collection}')"
    '.builder_configs]"'
  )


def _choice(size: int, examples: int, seed: int) -> np.ndarray:
  return np.sort(np.random.default_rng(seed).permutation(size)[:examples])


def _kind_and_severity(name: str) -> tuple[str, int]:
  """tfds:cifar10_corrupted/fog_3 -> cifar10_corrupted.fog, 3: metrics' names are split at /."""
  source, kind, severity, _ = _STORED.fullmatch(name).groups()
  kind = kind.replace('/', '.') if source == 'tfds' else pathlib.Path(kind).name
  return kind, int(severity)


def _stored(name: str, dataset, dir, seed, unreadable: str) -> data.Split:
  """The labelled test split of another set of the same classes, as images of the same shape."""
  request = sources.Request(name, dir, seed, shape=dataset.shape)
  source, where = sources.find(request, {}, {'unreadable': unreadable})
  if 'test' not in source.parts:
    raise data.DataError(f'{where} has no test split')
  x, y = checks.checked(source.parts['test'](), where, 'test', source.columns)
  if y is None or y.dtype != dataset.test.y.dtype or y.shape[1:] != dataset.test.y.shape[1:]:
    raise data.DataError(f'{where} has no labels of the kind that {dataset.name} has')
  if dataset.family == 'categorical' and y.max() >= dataset.targets:
    raise data.DataError(f'{where} has label {y.max()}, {dataset.name} {dataset.targets} classes')
  return data.Split(sizes.fit(x, dataset.shape), y)
