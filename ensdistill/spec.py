"""What a student's config.json says, checked before anything is built or computed from it.

A student's folder may come from anyone. So every entry is checked, sizes are bounded by the file
of weights, and names, shapes and types of all tensors are compared with the network's.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ensdistill import families, names, nets, objectives, students

FORMAT = 1
DTYPES = ('uint8', 'float32', 'float64', 'float16', 'int8', 'int16', 'int32', 'int64', 'bool')
FORMS = ('bfloat16', 'int8')  # of stored weights, where they are not float32
LARGEST_INPUT = 1 << 26  # values in one example


def _numbers(value) -> bool:
  return isinstance(value, list) and all(map(is_finite_number, value))


def is_finite_number(value) -> bool:
  """Return whether a value of JSON is a number that float64 holds."""
  if isinstance(value, bool) or not isinstance(value, int | float):
    return False
  try:
    return math.isfinite(value)
  except OverflowError:  # an integer that is too large
    return False


def _text(value) -> bool:
  return isinstance(value, str)


def _positive(value) -> bool:
  return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _shape(value) -> bool:
  return (
    isinstance(value, list)
    and len(value) in (1, 3)
    and all(map(_positive, value))
    and math.prod(value) <= LARGEST_INPUT
  )


def _classes(value) -> bool:
  return value is None or (isinstance(value, list) and all(map(_text, value)))


def _settings(value) -> bool:
  return isinstance(value, dict) and all(map(_setting, value.values()))


def _setting(value) -> bool:
  return all(map(_plain, value)) if isinstance(value, list) else _plain(value)


def _plain(value) -> bool:
  return value is None or isinstance(value, bool | str) or is_finite_number(value)


def _count(value) -> bool:
  return type(value) is int and value >= 0


def _data_settings(value) -> bool:
  return (
    _settings(value)
    and type(value.get('seed')) is int
    and _OF_PLACE.isdisjoint(value)
    and all(is_right(value[name]) for name, is_right in _OF_DATA.items() if name in value)
  )


def _valid(value) -> bool:
  return value is None or _count(value)


def _central(value) -> bool:
  return is_finite_number(value) and 0 < value <= 1


_OF_PLACE = {'name', 'dir', 'stream', 'stream_bytes', 'crops'}  # of a machine, never of a student
# Settings of data that every source may have; others are checked by the source that reads them.
_OF_DATA: dict[str, Callable] = {
  'valid': _valid,
  'limit': _count,
  'split': _count,
  'unreadable': _text,
  'central': _central,
}


def _inputs(value) -> bool:
  columns, low, high = (value.get(name) for name in ('columns', 'low', 'high'))
  named = columns is None or (isinstance(columns, list) and all(map(_text, columns)))
  return named and _numbers(low) and _numbers(high) and len(low) == len(high)


def _made_by(value) -> bool:
  return all(isinstance(value.get(name), dict) for name in ('config', 'fingerprints'))


def _weights(value) -> bool:
  return value.keys() == {'form'} and value['form'] in FORMS


def _results(value) -> bool:
  return isinstance(value, list) and all(
    _text(row.get('name')) and all(map(is_finite_number, row['metrics'].values())) for row in value
  )


def _named(key: str) -> Callable:
  def check(value) -> bool:
    return _settings(value) and _text(value.get(key))

  return check


def _imports(value) -> bool:
  return isinstance(value, list) and all(map(_import, value))


def _import(value) -> bool:
  parts = value['parts']
  return (
    _text(value['name'])
    and _text(value['sha256'])
    and isinstance(parts, list)
    and all(len(part) == 2 and all(map(_text, part)) for part in parts)
  )


# {entry: (check, what it must be)}
ENTRIES: dict[str, tuple[Callable, str]] = {
  'name': (_text, 'a text'),
  'data': (_text, 'a text'),
  'data_settings': (_data_settings, 'an object of plain values with a seed'),
  'shape': (_shape, f'1 or 3 positive sizes, of at most {LARGEST_INPUT} values'),
  'dtype': (DTYPES.__contains__, f'one of {", ".join(DTYPES)}'),
  'classes': (_classes, 'null or a list of texts'),
  'family': (_text, 'a text'),
  'targets': (_positive, 'a positive integer'),
  'target_mean': (_numbers, 'a list of finite numbers'),
  'target_std': (_numbers, 'a list of finite numbers'),
  'mean': (_numbers, 'a list of finite numbers'),
  'std': (_numbers, 'a list of finite numbers'),
  'network': (_named('name'), 'an object with a name'),
  'student': (_named('kind'), 'an object with a kind'),
  'objective': (_text, 'a text'),
  'objective_settings': (_settings, 'an object of plain values'),
}
# Entries that a student need not have; those of earlier versions lack them.
OPTIONAL: dict[str, tuple[Callable, str]] = {
  'imports': (_imports, 'a list of names, digests and parts'),
  'inputs': (_inputs, 'an object with columns, low and high'),
  'made_by': (_made_by, 'an object with config and fingerprints'),
  'weights': (_weights, f'an object with a form: {", ".join(FORMS)}'),
  'results': (_results, 'a list of objects with name and metrics'),
}


def check(spec: Mapping) -> None:
  """Raise ValueError unless every entry is there and of its type."""
  if spec.get('format') != FORMAT:
    raise ValueError(
      f'format {spec.get("format")!r} cannot be read; this version reads format {FORMAT}'
    )
  entries = ENTRIES | {name: entry for name, entry in OPTIONAL.items() if name in spec}
  for name, (is_right, wanted) in entries.items():
    if name not in spec:
      raise ValueError(f'{name} is missing')
    if not _holds(is_right, spec[name]):
      raise ValueError(f'{name}={names.short_repr(spec[name])} must be {wanted}')
  _check_columns(spec)
  family = names.lookup('family', spec['family'], families.FAMILIES)
  if spec['classes'] is not None and len(spec['classes']) != spec['targets']:
    raise ValueError(f'{len(spec["classes"])} classes are named, but there are {spec["targets"]}')
  for name in ('target_mean', 'target_std'):
    if not family.has_classes and len(spec[name]) not in (1, spec['targets']):
      raise ValueError(f'{name} has {len(spec[name])} values for {spec["targets"]} targets')
  if spec['target_std'] and min(spec['target_std']) <= 0:
    raise ValueError('every target_std must be positive')


def _check_columns(spec: Mapping) -> None:
  """Raise ValueError unless names and ranges are those of the table's columns."""
  found, shape = spec.get('inputs'), spec['shape']
  if not found:
    return
  size = shape[0] if len(shape) == 1 else 1
  if len(found['low']) != size or len(found['columns'] or [''] * size) != size:
    raise ValueError(f'inputs must have {size} columns')
  if len({*(found['columns'] or [])}) < len(found['columns'] or []):
    raise ValueError('inputs.columns names a column twice')
  if any(low > high for low, high in zip(found['low'], found['high'])):
    raise ValueError('inputs.low must not be above inputs.high')


def _holds(is_right: Callable, value) -> bool:
  try:
    return bool(is_right(value))
  except (TypeError, KeyError, OverflowError, AttributeError):  # another type, or too large
    return False


def build(spec: Mapping, tensors: Mapping[str, np.ndarray]) -> students.Student:
  """Return the student of a checked spec; raise ValueError unless these are its tensors."""
  _bound(spec, tensors)
  family = families.FAMILIES[spec['family']]
  backbone = nets.build(shape=spec['shape'], mean=spec['mean'], std=spec['std'], **spec['network'])
  objective = objectives.make(spec['objective'], **spec['objective_settings'])
  student = students.make(
    backbone=backbone, outputs=objective.width(family, spec['targets']), **spec['student']
  )
  compare(student, spec['shape'], tensors)
  return student


def _bound(spec: Mapping, tensors: Mapping) -> None:
  """Raise ValueError for sizes that the weights cannot have, before anything is built."""
  values = sum(tensor.size for tensor in tensors.values())
  entries = {'targets': spec['targets'], 'members': spec['student'].get('members')}
  if spec['student']['kind'] in students.PACKAGE:  # settings of other parts may mean anything
    entries |= spec['student']
  if spec['network']['name'] in nets.PACKAGE:
    entries |= spec['network']
  for name, entry in entries.items():
    for value in entry if isinstance(entry, list) else [entry]:
      if is_finite_number(value) and value > values:
        raise ValueError(
          f'{name}={names.short_repr(entry)} is larger than the {values} stored values'
        )
  if spec['network']['name'] not in nets.PACKAGE:
    return
  layers = spec['network'].get('depth'), spec['network'].get('hidden')
  for count in (layers[0], len(layers[1]) if isinstance(layers[1], list) else 0):
    if is_finite_number(count) and count > len(tensors):
      raise ValueError(f'{count} layers have more than the {len(tensors)} stored tensors')
  patch, shape = spec['network'].get('patch'), spec['shape']
  channels = spec['network'].get('channels', 1)
  if _positive(patch) and _positive(channels) and len(shape) == 3:
    positions = (shape[0] // patch) * (shape[1] // patch) * channels
    if positions > LARGEST_INPUT:
      raise ValueError(f'patch={patch} and channels={channels} give {positions} positions')


def compare(student: students.Student, shape, tensors: Mapping[str, np.ndarray]) -> None:
  """Raise ValueError unless names, shapes and types of the tensors are those of the network."""
  x = jax.ShapeDtypeStruct((1, *shape), jnp.float32)
  wanted = {
    name: _described(leaf) for name, leaf in _leaves(jax.eval_shape(_init(student), x)).items()
  }
  found = {name: _described(tensor) for name, tensor in tensors.items()}
  wrong = [
    f'{name!r} is {found.get(name, "absent")} in the file, {wanted.get(name, "absent")} in the '
    'network'
    for name in sorted(wanted.keys() | found.keys())
    if wanted.get(name) != found.get(name)
  ]
  if wrong:
    more = f' (and {len(wrong) - 1} more)' if len(wrong) > 1 else ''
    raise ValueError(f'{wrong[0]}{more}')


def _init(student: students.Student) -> Callable:
  def init(x):
    return student.module.init(jax.random.key(0), x)

  return init


def _leaves(tree) -> dict[str, Any]:
  """Return the leaves by the names that `safe.flatten` gives them."""
  flat: dict[str, Any] = {}
  for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
    flat['/'.join(key.key for key in path)] = leaf
  return flat


def _described(array) -> str:
  return f'{array.dtype}{list(array.shape)}'
