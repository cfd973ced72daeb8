"""Custom parts: imported by the name that the user gives, recorded by their source's digest.

A file or module registers parts in STUDENTS, OBJECTIVES, PERTURBATIONS or NETWORKS. A network may
also be named directly, 'my_network.py:make'. A run records which imports its parts come from.
"""

import hashlib
import inspect
import pathlib
import sys
from collections.abc import Collection, Iterable, Mapping
from importlib import metadata
from typing import Any, NamedTuple

from ensdistill import imports, nets, objectives, perturb, students

GROUP = 'ensdistill.plugins'  # of entry points
REGISTRIES = {
  'student': students.STUDENTS,
  'objective': objectives.OBJECTIVES,
  'perturbation': perturb.PERTURBATIONS,
  'network': nets.NETWORKS,
}
# What a part is called with; everything else of its signature is a setting with a default.
_CALLED_WITH = {'student': ('backbone', 'outputs', 'members'), 'network': ('shape',)}
_LOADING = ('student', 'objective', 'network')  # what a stored student is rebuilt from

Part = tuple[str, str]  # kind and name


class Plugin(NamedTuple):
  """An imported file or module: how it was named, its digest, and the parts that it registered."""

  place: str
  sha256: str
  parts: frozenset[Part]
  named: bool = True  # as an import; False: a config file or a program that registers parts itself

  @property
  def name(self) -> str:
    """The place without the file's folder."""
    return _short(self.place)


def _split(place: str) -> tuple[str, str]:
  """Return file or module, and function, of 'file.py:function'; '' where there is none."""
  found, _, function = place.rpartition(':')
  return (found, function) if found else (place, '')


def _short(place: str) -> str:
  found, function = _split(place)
  name = pathlib.Path(found).name if found.endswith('.py') else found
  return f'{name}:{function}' if function else name


_loaded: dict[str, Plugin] = {}  # by path or module


def load(place: str, setting: str, folder: pathlib.Path | None = None) -> Plugin:
  """Import a file or module that registers parts; raise ValueError with one line if it fails.

  `setting` is what the user wrote, for messages. A relative path is searched in `folder`.
  """
  if ',' in place:
    raise ValueError(f'{setting}: a path must not have a comma in it')
  if _split(place)[0].endswith('.py') and folder:
    place = str(folder / pathlib.Path(place).expanduser())
  if _split(place)[1]:
    network(place, setting)
    return _loaded[_key(place)]
  before = registered()
  known = _loaded.get(_key(place))
  if known and known.named and _is_current(known, before):
    return known
  module = imports.module(place, setting)
  return remember(place, module, before, setting)


def _key(place: str) -> str:
  found, function = _split(place)
  path = str(pathlib.Path(found).expanduser().resolve()) if found.endswith('.py') else found
  return f'{path}:{function}' if function else path


def _is_current(plugin: Plugin, now: Mapping[Part, Any]) -> bool:
  """Return whether a plugin is up to date: its file is unchanged and its parts are registered."""
  if not plugin.place.endswith('.py'):
    return plugin.parts <= now.keys()
  source = pathlib.Path(_key(plugin.place))
  same = source.is_file() and hashlib.sha256(source.read_bytes()).hexdigest() == plugin.sha256
  return same and plugin.parts <= now.keys()


def loaded() -> list[Plugin]:
  """Return what is imported, in the order of the imports."""
  return list(_loaded.values())


def registered() -> dict[Part, Any]:
  """Return every part that is known now."""
  return {(kind, name): part for kind, table in REGISTRIES.items() for name, part in table.items()}


def remember(
  place: str, module, before: Mapping[Part, Any], setting: str, named: bool = True
) -> Plugin:
  """Note the parts that a module registered since `before`, checked."""
  key, now = _key(place), registered()
  own = {part for part in now if now[part] is not before.get(part) or _is_of(now[part], module)}
  if key in _loaded:
    own |= {part for part in _loaded[key].parts if part in now}
  for kind, name in own:
    check(kind, name, now[kind, name], setting)
  _loaded[key] = Plugin(place, imports.digest(module), frozenset(own), named)
  return _loaded[key]


def _is_of(part, module) -> bool:
  """Return whether a part is defined in a module, or in the module's package."""
  own = getattr(part, '__module__', None) or ''
  return own == module.__name__ or own.startswith(f'{module.__name__}.')


def check(kind: str, name: str, part, setting: str) -> None:
  """Refuse a part that cannot be called as parts of its kind are."""
  arguments = _CALLED_WITH.get(kind, ())
  form = f'a function of ({", ".join((*arguments, "*", "settings with defaults"))})'
  if not callable(part):
    raise ValueError(f'{setting}: {kind} {name!r} is a {type(part).__name__}, not {form}')
  try:
    inspect.signature(part).bind(*arguments)
  except TypeError as error:
    raise ValueError(f'{setting}: {kind} {name!r} must be {form} ({error})') from None


def load_installed() -> None:
  """Import the plugins of installed packages, their entry points `ensdistill.plugins`."""
  for entry in metadata.entry_points(group=GROUP):
    if entry.module not in _loaded:
      package = entry.dist.name if entry.dist else entry.module
      load(entry.module, f'plugin {entry.value!r} of the installed package {package!r}')


def named(text: str | None) -> list[str]:
  """Return the places of a setting `imports`."""
  return [place.strip() for place in (text or '').split(',') if place.strip()]


def network(name: str, setting: str) -> str:
  """Import the network 'module:function' or 'file.py:function'; return its name without a folder.

  Another name is returned as it is, and so is one that is imported already.
  """
  place, function = _split(name)
  if not function or (name in nets.NETWORKS and not pathlib.Path(place).is_file()):
    return name
  before, short = registered(), _short(name)
  module = imports.module(place, setting)
  made = imports.member(module, name, setting)
  if not callable(made):
    raise ValueError(f'{setting} is a {type(made).__name__}, not a function or a Flax class')
  try:
    nets.NETWORKS[short] = made
  except ValueError as error:
    raise ValueError(f'{setting}: {error}') from None
  remember(name, module, before, setting)
  return short


def used(wanted: Collection[Part], places: Collection[str]) -> list[Plugin]:
  """Return the plugins that define these parts, sorted by digest. Built-in parts have none.

  Imports of these places that register no part are among them, for they may change anything. Parts
  that a program registers without an import are known by the module that defines them.
  """
  own = set(wanted)
  found = [p for p in _loaded.values() if p.parts & own or (not p.parts and p.place in places)]
  now, covered = registered(), {part for plugin in found for part in plugin.parts}
  for part in sorted(own - covered):
    plugin = _of_program(part, now.get(part))
    found += [plugin] if plugin else []
  return sorted(found, key=_by_digest)


def _by_digest(plugin: Plugin) -> str:
  return plugin.sha256


def _of_program(part: Part, made) -> Plugin | None:
  """Return the module that defines a part, where it is not of the package."""
  name = getattr(made, '__module__', None) or ''
  module = sys.modules.get(name)
  if module is None or name.split('.')[0] == 'ensdistill':
    return None
  file = getattr(module, '__file__', None)
  place = pathlib.Path(file).name if file and name == '__main__' else name
  return Plugin(place, imports.digest(module), frozenset([part]), named=False)


class Missing(ValueError):
  """A stored student has parts that are not imported."""

  def __init__(self, problem: str, remedy: str):
    super().__init__(f'{problem}: {remedy}')
    self.problem, self.remedy = problem, remedy


def recall(entries: Iterable[Mapping[str, Any]], places: Iterable[str]) -> list[str]:
  """Import what a stored student needs from `places`; return a line for each source that changed.

  Nothing else is imported. Raise Missing with what to pass where a part is missing.
  """
  for place in places:
    load(place, f'imports={place!r}')
  lines = []
  for entry in entries:
    own = [(kind, name) for kind, name in entry['parts'] if kind in _LOADING]
    if entry['parts'] and not own:
      continue  # a perturbation is not part of a student
    missing = [part for part in own if part not in registered()]
    plugin = _find(entry, own)
    if missing or plugin is None:
      what = ' and '.join(f'{kind} {name!r}' for kind, name in missing) or 'what it registers'
      raise Missing(
        f'needs {what} of {entry["name"]}, which is not imported',
        f'pass imports={entry["name"]!r} to ensdistill.load, or --import={entry["name"]} to a '
        'command, with the path of the file',
      )
    if plugin.sha256 != entry['sha256']:
      lines.append(
        f'{plugin.place} differs from the {entry["name"]} of the training (SHA-256 '
        f'{plugin.sha256[:12]}, not {entry["sha256"][:12]}): predictions may differ'
      )
  return lines


def _find(entry: Mapping[str, Any], own: list[Part]) -> Plugin | None:
  """Return the loaded plugin that has the parts of an entry, or its digest where it has none."""
  for plugin in _loaded.values():
    if plugin.parts.issuperset(own) if own else entry['name'] == plugin.name:
      return plugin
  known = registered()
  found = [_of_program(part, known.get(part)) for part in own]
  return next(iter(filter(None, found)), None)
