"""The sets of an evaluation, by name: labelled, out-of-distribution and shifted inputs.

A wanted set that cannot be read raises no error: `not_run` gets its name and the reason. Processes
that share a run read separately, because such a set may be missing on one of their hosts.
"""

import hashlib
import pathlib
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from ensdistill import data, families, names, processes
from ensdistill.data import checks, shift, sources
from ensdistill.data.images import stored
from ensdistill.data.sources import prepared, records

# Out-of-distribution inputs for any table, made of its own test inputs.
OUTSIDE = 'outside'
DEFAULT_SHIFTS = ('gaussian_noise', 'defocus_blur', 'contrast', 'rotation')
# Published corruptions of a data set: its default where any of them are prepared.
PUBLISHED_SHIFTS = {name: 'tfds:cifar10_corrupted' for name in ('cifar10', 'tfds:cifar10')}
# A stored shifted set: its kind of source, its name, its severity.
_STORED = re.compile(r'(tfds|npz):(.+)_([1-5])(\.npz)?')
# A collection of prepared shifted sets, such as tfds:cifar10_corrupted.
_COLLECTION = re.compile(r'tfds:([^/:]+)')


class Shifted(NamedTuple):
  """Test examples under one corruption."""

  kind: str
  severity: int
  x: np.ndarray
  y: np.ndarray


def check(dataset, *, ood: str, shifts: str, dir: str | None = None) -> None:
  """Refuse unknown names of data sets and corruptions, before anything is computed."""
  for name in ood_names(dataset, ood):
    if name == OUTSIDE:
      continue
    try:
      sources.source_of(sources.Request(name, dir, 0, shape=dataset.shape), {})
    except data.DataError:
      pass  # the evaluation will write this to `not_run`
  shift_names(dataset, shifts, dir)


def ood_names(dataset, wanted: str) -> list[str]:
  """Return the names in 'a,b', 'default' or 'none'.

  The default is that of OOD_DEFAULTS; for other tables it is 'outside'.
  """
  is_table = len(dataset.shape) == 1
  default = data.OOD_DEFAULTS.get(dataset.name, (OUTSIDE,) if is_table else ())
  found = _expand(wanted, {'none': (), 'default': default})
  if OUTSIDE in found and not is_table:
    raise ValueError(
      f'evaluate.ood={wanted!r}: {OUTSIDE!r} moves columns of a table, but {dataset.name} holds '
      'images: choose other sets'
    )
  return found


def outside(dataset, seed: int = 0) -> np.ndarray:
  """Return a table's test inputs, each with one column moved outside the training range.

  The column, the side and the distance beyond the range (half to all of it) are random. Constant
  columns are never moved.
  """
  low, high = dataset.train.x.min(0), dataset.train.x.max(0)
  varying = np.flatnonzero(high > low)
  if not len(varying):
    raise data.DataError(f'no column of {dataset.name} varies, so no input lies outside its range')
  x, random = dataset.test.x.copy(), np.random.RandomState(seed)
  row, column = np.arange(len(x)), random.choice(varying, len(x))
  step = random.uniform(0.5, 1, len(x)) * (high - low)[column]
  up = random.random_sample(len(x)) < 0.5
  x[row, column] = np.where(up, high[column] + step, low[column] - step)
  return x


def shift_names(dataset, wanted: str, dir: str | None = None) -> list[str]:
  """Return kinds of corruption and stored sets.

  The default is the prepared sets of PUBLISHED_SHIFTS, else DEFAULT_SHIFTS for images and none for
  tables. A collection tfds:NAME is replaced by its prepared sets, if there are any.
  """
  is_images = len(dataset.shape) == 3
  default = _prepared_sets(PUBLISHED_SHIFTS.get(dataset.name, ''), dir)
  default = default or (DEFAULT_SHIFTS if is_images else ())
  presets = {'none': (), 'all': shift.SHIFTS, 'default': default}
  found = _expand(wanted, presets)
  found = [one for name in found for one in _prepared_sets(name, dir) or [name]]
  for name in found:
    if ':' not in name:
      names.check('shift', name, shift.SHIFTS)
    elif not (_STORED.fullmatch(name) or _COLLECTION.fullmatch(name)):
      raise ValueError(
        f'shifted set {name!r} must end in its severity, _1 to _5, as in '
        'tfds:cifar10_corrupted/fog_3, or name a whole collection: tfds:cifar10_corrupted'
      )
  kinds: dict[tuple[str, int], str] = {}
  for name in found:
    if _STORED.fullmatch(name):
      key = _kind_and_severity(name)
      other = kinds.setdefault(key, name) if key[0] not in found else key[0]
      if other != name:
        raise ValueError(
          f'evaluate.shift: {other!r} and {name!r} have the same name in the results, {key[0]!r}: '
          'leave one of them out, or rename its file'
        )
  if found and not is_images:
    raise ValueError(
      f'evaluate.shift={wanted!r} corrupts images, but {dataset.name} holds tables: set '
      "evaluate.shift='none'"
    )
  return found


def _prepared_sets(name: str, dir: str | None) -> list[str]:
  """Return tfds:NAME/KIND_SEVERITY for every prepared set of the collection tfds:NAME, in order."""
  collection = _COLLECTION.fullmatch(name)
  if not collection:
    return []
  folder = prepared.data_folder(dir) / collection[1]
  found = sorted(path.name for path in folder.glob('*_[1-5]'))
  return [f'{name}/{one}' for one in found if prepared.is_prepared(f'{collection[1]}/{one}', dir)]


def _expand(wanted: str, presets) -> list[str]:
  """Return the names in a comma-separated list, presets replaced by their names, each once."""
  parts = [part.strip() for part in wanted.split(',')]
  expanded = [name for part in parts if part for name in presets.get(part, (part,))]
  return list(dict.fromkeys(expanded))


def inputs(dataset, wanted: str, not_run: dict, *, seed=0, **reading) -> dict[str, np.ndarray]:
  """Return {'valid', 'test', 'ood/<set>', ...: inputs}.

  An out-of-distribution set has at most as many inputs as the test set; `reading` are arguments of
  data.load_inputs for it.
  """
  found = {} if dataset.valid_is_empty else {'valid': dataset.valid.x}
  found['test'] = dataset.test.x
  form = {'shape': dataset.shape, 'columns': dataset.columns}
  settings = form | {'limit': len(dataset.test.x), 'seed': seed, **reading}
  for name in ood_names(dataset, wanted):
    x: Any = ()
    problem = ''
    try:
      with processes.separately():
        x = outside(dataset, seed) if name == OUTSIDE else data.load_inputs(name, **settings)
    except (data.DataError, ValueError) as error:
      problem = str(error)
    if _all_have_read(f'ood/{name}', x, problem, not_run):
      found[f'ood/{name}'] = x
  return found


def _all_have_read(name: str, x, problem: str, not_run: dict) -> bool:
  """Return whether all processes that share the run have read a set; if not, note the reason."""
  found = processes.each([len(x), _digest(x), problem], name)
  problem = next((theirs for *_, theirs in found if theirs), '')
  sizes = [size for size, *_ in found]
  if not problem and min(sizes) < max(sizes):
    problem = f'it has {min(sizes)} examples on one host and {max(sizes)} on another'
  if not problem and len({digest for _, digest, _ in found}) > 1:
    problem = 'it has other examples on one host than on another'
  if problem:
    not_run[name] = problem
  return not problem


def _digest(x) -> str:
  """Return a hash of inputs, for comparison with other processes; '' for a lone process."""
  if not processes.shared() or not len(x):
    return ''
  return hashlib.sha256(stored.content(x)).hexdigest()


def predicted(predict, inputs: dict, not_run: dict) -> dict:
  """Return {set: predict(inputs, set)}; a damaged out-of-distribution set goes to `not_run`."""
  found = {}
  for name, x in inputs.items():
    try:
      found[name] = predict(x, name)
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
  """Yield one corrupted set after the other, each with the same test examples."""
  chosen = _choice(len(dataset.test.x), examples, seed)
  x, y = dataset.test.x[chosen], dataset.test.y[chosen]
  for name in processes.agreed(lambda: shift_names(dataset, wanted, dir), 'shifts'):
    if collection := _COLLECTION.fullmatch(name):
      not_run[f'shift/{name}'] = _how_to_prepare(collection[1], dir)
      continue
    if ':' not in name:
      for severity in shift.SEVERITIES:
        yield Shifted(name, severity, shift.apply(name, severity, x, seed), y)
      continue
    stored_x: Any = ()
    problem = ''
    try:
      with processes.separately():
        stored_x, stored_y = _stored(name, dataset, dir, seed, unreadable)
      chosen = _choice(len(stored_x), examples, seed)
      stored_x = stored_x[chosen]
    except (data.DataError, ValueError) as error:
      problem = str(error)
    if _all_have_read(f'shift/{name}', stored_x, problem, not_run):
      yield Shifted(*_kind_and_severity(name), stored_x, stored_y[chosen])


def _how_to_prepare(collection: str, dir) -> str:
  folder = prepared.data_folder(dir)
  return (
    f'{collection!r} is not prepared: {folder / collection} holds no set of it. Prepare it with: '
    "pip install 'ensdistill[tf]' && python -c \"import tensorflow_datasets as tfds; "
    f"[tfds.builder(f'{collection}/{{form}}', data_dir='{folder}').download_and_prepare("
    f"file_format='{records.FORMAT}') for form in tfds.builder_cls('{collection}')"
    '.builder_configs]"'
  )


def _choice(size: int, examples: int, seed: int) -> np.ndarray:
  """Return seeded ascending rows."""
  return np.sort(np.random.default_rng(seed).permutation(size)[:examples])


def _kind_and_severity(name: str) -> tuple[str, int]:
  """Return ('cifar10_corrupted.fog', 3) for tfds:cifar10_corrupted/fog_3.

  The kind holds no / because names of metrics are split there.
  """
  stored_set = _STORED.fullmatch(name)
  assert stored_set  # `shift_names` accepts no other name
  source, kind, severity, _ = stored_set.groups()
  kind = kind.replace('/', '.') if source == 'tfds' else pathlib.Path(kind).name
  return kind, int(severity)


def _stored(name: str, dataset, dir, seed, unreadable: str) -> data.Split:
  """Return the labelled test split of another set with the same classes, in the same shape."""
  request = sources.Request(name, dir, seed, shape=dataset.shape)
  source = sources.source_of(request, {}, optional={'unreadable': unreadable})
  where = source.where
  if 'test' not in source.parts:
    raise data.DataError(f'{where} has no test split')
  x, y = checks.checked(source.parts['test'](), where, 'test', source.columns)
  if y is None or y.dtype != dataset.test.y.dtype or y.shape[1:] != dataset.test.y.shape[1:]:
    raise data.DataError(f'{where} has no labels of the same kind as {dataset.name}')
  if families.of_targets(y).has_classes and y.max() >= dataset.targets:
    raise data.DataError(
      f'{where} has label {y.max()}, but {dataset.name} has {dataset.targets} classes'
    )
  return data.Split(stored.fit(x, dataset.shape), y)
