"""The bounds of every numeric setting, in one table; a value outside them never starts a run."""

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import ml_collections

from ensdistill import names
from ensdistill.config import settings

INT32 = 2**31 - 1  # steps are counted in int32 on the device
_LARGEST = 1e9  # of a number that multiplies others: float32 holds its square, and its inverse


class Bounds(NamedTuple):
  """The allowed values of a number; `open` ends are not allowed themselves."""

  low: float
  high: float
  open_low: bool = False
  open_high: bool = False

  def allow(self, value: float) -> bool:
    """Return whether a finite number lies within the bounds."""
    above = value > self.low if self.open_low else value >= self.low
    return above and (value < self.high if self.open_high else value <= self.high)

  def __str__(self):
    left = '(' if self.open_low else '['
    right = ')' if self.open_high else ']'
    return f'{left}{_text(self.low)}, {_text(self.high)}{right}'


_SHARE, _RATE = Bounds(0, 1), Bounds(0, 1, open_high=True)
_POSITIVE = Bounds(1 / _LARGEST, _LARGEST)

# As in help.py, 'steps' stands for teacher.steps and student.steps.
BOUNDS = {
  'seed': Bounds(0, 2**32 - 1),  # NumPy takes 32 bits
  'seeds': Bounds(1, 10_000),
  'student.seed': Bounds(0, 2**31 - 10_000),
  'checkpoint_seconds': Bounds(0, _LARGEST),
  'watchdog_minutes': Bounds(0, 1_000_000),
  'steps_per_call': Bounds(0, INT32),
  'logs': Bounds(1, 1_000_000),
  'scores': Bounds(1, 1_000_000),
  'profile': Bounds(0, 1_000_000),
  'data.valid': Bounds(0, INT32),
  'data.limit': Bounds(0, INT32),
  'data.split': Bounds(0, INT32),
  'data.stream_bytes': Bounds(0, 2**60),
  'data.workers': Bounds(0, 1_024),
  'data.size': Bounds(0, 100_000_000),  # examples of toy1d; of images see data.images.stored
  'data.central': Bounds(0, 1, open_low=True),
  'data.noise': Bounds(0, _LARGEST),
  'data.per_class': Bounds(1, 100_000_000),
  'augment.crop': Bounds(0, 4_096),
  'augment.cutout': Bounds(0, 16_384),
  'augment.rotate': Bounds(0, 180),
  'augment.mixup': Bounds(0, 1_000),
  'augment.crop_area': _SHARE,
  'network.depth': Bounds(1, 2_000),
  'network.width': Bounds(1, 1_000),
  'network.hidden': Bounds(1, 1_000_000),
  'network.channels': Bounds(1, 65_536),
  'network.heads': Bounds(1, 4_096),
  'network.patch': Bounds(1, 16_384),
  'network.dropout': _RATE,
  'network.init_gain': _POSITIVE,
  'steps': Bounds(0, INT32),
  'epochs': Bounds(0, 10_000_000),
  'batch_size': Bounds(1, 2**24),
  'microbatches': Bounds(1, 2**24),
  'teacher.members': Bounds(0, 900),  # a checkpoint's name has one bit a member
  'teacher.together': Bounds(0, 900),
  'student.members': Bounds(0, 900),
  'student.head_stages': Bounds(0, 10_000),
  'student.factor_std': Bounds(0, _LARGEST),
  'student.phases': Bounds(1, 2),
  'student.first_phase': Bounds(0, 1, open_low=True, open_high=True),
  'optimizer.rate': Bounds(0, _LARGEST, open_low=True),
  'optimizer.warmup': _RATE,
  'optimizer.decay': Bounds(0, _LARGEST),
  'optimizer.clip': Bounds(0, _LARGEST),
  'optimizer.momentum': _RATE,
  'optimizer.factor_rate': Bounds(0, _LARGEST),
  'objective.label_weight': _SHARE,
  'objective.temperature': _POSITIVE,
  'objective.smoothing': _RATE,
  'objective.held': _SHARE,
  'objective.end': _SHARE,
  'objective.start': Bounds(-60, 60),
  'objective.beta': _POSITIVE,
  'objective.aux_weight': Bounds(0, _LARGEST),
  'perturb.eta': Bounds(0, _LARGEST, open_low=True),
  'perturb.temperature': _POSITIVE,
  'evaluate.batch_size': Bounds(1, 2**24),
  'evaluate.shift_examples': Bounds(1, INT32),
}
# Hints in the errors of values outside the bounds.
_HINTS = {
  'data.workers': '0 decodes in threads',
  'optimizer.warmup': 'a fraction of the run',
  'student.first_phase': 'a fraction of the run',
  'perturb.eta': "for no perturbation set perturb.name='none'",
  'data.limit': '0 keeps all examples',
}


def of(name: str) -> Bounds | None:
  """Return the bounds of a setting such as 'teacher.optimizer.rate'; None if it has none."""
  return _entry(name, BOUNDS)


def check(config) -> None:
  """Raise ValueError unless every number of a configuration is finite and within its bounds."""
  for name, kind, value in numbers(config):
    for entry in _entries(value):
      _check_number(name, kind, value, entry)


def numbers(config) -> Iterator[tuple[str, type, Any]]:
  """Yield (name, type by default, value) of every setting that may hold a number."""
  kinds = dict(_walked(settings.default(), _type_of))
  for name, value in _walked(config, _value_of):
    kind = kinds.get(name, type(value))
    if kind not in (str, bool) or (value is not None and not isinstance(value, str | bool)):
      yield name, kind, value


def _walked(section, read: Callable, prefix: str = '') -> Iterator[tuple[str, Any]]:
  """Yield (name, read(section, field)) of every setting."""
  for name, value in section.items():
    if isinstance(value, ml_collections.ConfigDict):
      yield from _walked(value, read, f'{prefix}{name}.')
    else:
      yield prefix + name, read(section, name)


def _type_of(section, name: str) -> type:
  return section.get_type(name)


def _value_of(section, name: str) -> Any:
  return section[name]


def _entry(name: str, table: dict):
  while name not in table and '.' in name:
    name = name.partition('.')[2]
  return table.get(name)


def _entries(value) -> Iterator[Any]:
  """Yield the entries of nested lists, or the value itself; nothing for an unset one."""
  if isinstance(value, list | tuple):
    for entry in value:
      yield from _entries(entry)
  elif value is not None:
    yield value


def _check_number(name: str, kind: type, value, number) -> None:
  bounds, hint = of(name), _entry(name, _HINTS)
  whole = kind is int or (kind is tuple and bounds)
  is_number = isinstance(number, int if whole else int | float) and not isinstance(number, bool)
  finite = is_number and (isinstance(number, int) or math.isfinite(number))
  if finite and (bounds is None or bounds.allow(number)):
    return
  wanted = 'a whole number' if whole else 'a finite number'
  if kind is tuple:
    wanted = 'whole numbers' if whole else 'finite numbers'
  if bounds:
    wanted += f' in {bounds}'
  raise ValueError(
    f'{name}={names.short_repr(value)} must be {wanted}' + (f' ({hint})' if hint else '')
  )


def _text(number: float) -> str:
  return f'{number:,}' if isinstance(number, int) else f'{number:g}'.replace('e+0', 'e')
