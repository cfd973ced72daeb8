"""Look up names that users choose; errors suggest the nearest known name."""

import difflib
import functools
import inspect
import math
import pathlib
from collections.abc import Iterable, Mapping
from typing import Any

from ensdistill import messages

# (name in papers, name here)
ALIASES = (
  ('hydra', 'multi_head'),
  ('hydra', 'members'),
  ('latentbe', 'batch_ensemble'),
  ('kd', 'mean'),
  ('end2', 'dirichlet'),
  ('end2_proxy', 'proxy_dirichlet'),
)
_SHOWN = 12  # known names in an error
_LONGEST_REPR = 60  # characters


class Registry(dict[str, Any]):
  """Parts by name. Another part of a name that is taken is refused."""

  def __init__(self, kind: str, parts: dict[str, Any]):
    super().__init__(parts)
    self.kind = kind

  def __setitem__(self, name: str, part) -> None:
    """Add a part; the same part of a module that is imported again replaces itself."""
    known = self.get(name)
    if known is not None and known is not part and not _is_same(known, part):
      raise ValueError(
        f'{self.kind} {name!r} is defined twice, {_place(known)} and {_place(part)}: '
        'rename one of them'
      )
    super().__setitem__(name, part)

  def update(self, *parts, **named) -> None:  # dict.update bypasses __setitem__
    """Add several parts."""
    for name, part in dict(*parts, **named).items():
      self[name] = part


def _is_same(known, part) -> bool:
  """Return whether two parts have one origin; parts of unknown origin are different."""
  return _origin(part) is not None and _origin(known) == _origin(part)


def _place(part) -> str:
  """Return where a part is defined, or its value, for an error."""
  origin = _origin(part)
  return f'in {origin}' if origin and callable(part) else f'as {short_repr(part)}'


def _origin(part) -> str | None:
  """Return where a part is defined: its file, or its module; None where that is unknown.

  The origin of a part that is not code is its content, that of a functools.partial its function's.
  """
  if not callable(part):
    return repr(part)
  part = inspect.unwrap(part)
  while isinstance(part, functools.partial):
    part = inspect.unwrap(part.func)
  code = getattr(part, '__code__', None)
  if code:
    return str(pathlib.Path(code.co_filename).resolve())
  return getattr(part, '__module__', None)


def short_repr(value) -> str:
  """Return the repr of a value, cut after 60 characters; a large integer as a power of ten.

  Python refuses to print integers of more than 4,300 digits.
  """
  if isinstance(value, int) and abs(value) > 10**40:
    return f'{"-" * (value < 0)}10^{round(math.log10(abs(value)))}'
  text = repr(value)
  return text if len(text) <= _LONGEST_REPR else f'{text[: _LONGEST_REPR - 3]}...'


def nearest(name: str, known: Iterable[str], cutoff: float = 0.5) -> str | None:
  """Return the known name that is most similar, or None; `cutoff` is the least similarity."""
  return next(iter(difflib.get_close_matches(name, known, n=1, cutoff=cutoff)), None)


def meant(name: str, known: Iterable[str], cutoff: float = 0.5) -> str:
  """Return ': did you mean ...?' with the nearest known name, or '.' if none is near."""
  near = nearest(name, known, cutoff)
  return f': did you mean {near!r}?' if near else '.'


def unknown(kind: str, name: object, known: Iterable[str], listing: str = '') -> ValueError:
  """Return the one-line error for an unknown name; `listing` says where all names are listed."""
  known = sorted(known)
  here = {alias: part for alias, part in ALIASES if part in known} | {part: part for part in known}
  near = nearest(str(name), here)
  hint = f': did you mean {here[near]!r}?' if near else '.'
  shown = ', '.join(known[:_SHOWN]) or 'none'
  rest = f' and {len(known) - _SHOWN} more' if len(known) > _SHOWN else ''
  listing = f'. {listing}' if listing else ''
  return ValueError(f'unknown {kind} {name!r}{hint} known: {shown}{rest}{listing}')


def check(kind: str, name: object, known: Iterable[str]) -> None:
  """Raise ValueError with the known names if `name` is unknown."""
  if name not in (known := tuple(known)):
    raise unknown(kind, name, known)


def lookup(kind: str, name: str, table):
  """Return table[name]; raise ValueError with the known names if `name` is unknown."""
  if name not in table:
    raise unknown(kind, name, table)
  return table[name]


def build(kind: str, name: str, wanted: type, builder, *arguments, **settings):
  """Return the part that a builder makes; raise ValueError if it fails or makes something else."""
  try:
    part = builder(*arguments, **settings)
  except Exception as error:
    if isinstance(error, ValueError) or str(getattr(builder, '__module__', '')).startswith(
      'ensdistill.'
    ):
      raise
    raise ValueError(f'{kind} {name!r} failed: {messages.described(error)}') from error
  if not isinstance(part, wanted):
    place = f'{wanted.__module__.split(".")[1]}.{wanted.__name__}'
    raise ValueError(f'{kind} {name!r} returns a {type(part).__name__}: return {place}(...)')
  return part


def check_settings(kind: str, given: Iterable[str], known: Iterable[str]) -> None:
  """Raise ValueError if a given setting is unknown."""
  known = set(known)
  for name in given:
    if name not in known:
      listing = '`ensdistill config --all` lists all settings.'
      raise unknown(f'setting of {kind}', name, known, listing)


def flatten(tree: Mapping[str, Any], prefix: str = '') -> dict[str, Any]:
  """Return nested settings, in dicts or ConfigDicts, as {'a.b': value}."""
  flat: dict[str, Any] = {}
  for name, value in tree.items():
    is_section = hasattr(value, 'items')
    flat |= flatten(value, f'{prefix}{name}.') if is_section else {prefix + name: value}
  return flat
