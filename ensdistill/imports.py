"""Python files and modules that a user names: imported, with one-line errors."""

import contextlib
import hashlib
import importlib
import importlib.util
import inspect
import pathlib
import sys
from typing import Any

from ensdistill import messages


def module(place: str, setting: str):
  """Return the module that `package.module` or a path ending in .py names.

  `setting` is what the user wrote, such as "teacher.source='my.py:make'"; errors begin with it.
  """
  try:
    if not place.endswith('.py'):
      return importlib.import_module(place)
    path = pathlib.Path(place).expanduser().resolve()
    if not path.is_file():
      raise FileNotFoundError(f'no file {place}')
    folder = hashlib.sha256(str(path.parent).encode()).hexdigest()[:8]
    spec = importlib.util.spec_from_file_location(f'ensdistill_{folder}_{path.stem}', path)
    assert spec and spec.loader
    found = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = found  # dataclasses in the file look themselves up
    spec.loader.exec_module(found)
    return found
  except (Exception, SystemExit) as error:
    text = f'{setting} cannot be imported: {messages.described(error, 1000)}{_hint(place, error)}'
    raise ValueError(text) from error


def _hint(place: str, error: BaseException) -> str:
  """Return what to write where a module that is not installed lies in the working folder."""
  path = pathlib.Path(*place.split('.'))
  if isinstance(error, ModuleNotFoundError) and error.name in (place, place.split('.')[0]):
    for file in (path.with_suffix('.py'), path / '__init__.py'):
      if file.is_file():
        return f'. It lies in the working folder: name its file, {file}, or install it'
  return ''


def attribute(name: str, setting: str) -> Any:
  """Return what `package.module:name` or `file.py:name` names."""
  place, _, own = name.rpartition(':')
  if not place or not own:
    raise ValueError(f'{setting}: write package.module:function or file.py:function')
  return member(module(place, setting), name, setting)


def member(found, name: str, setting: str) -> Any:
  """Return what `package.module:name` names in an imported module."""
  place, _, own = name.rpartition(':')
  if not hasattr(found, own):
    raise ValueError(f'{setting}: {place} has no {own!r}')
  return getattr(found, own)


def text(thing) -> bytes:
  """Return the source file of a module or function; empty where there is none."""
  with contextlib.suppress(OSError, TypeError):
    return pathlib.Path(inspect.getsourcefile(thing) or '').read_bytes()
  return b''


def digest(found) -> str:
  """Return the SHA-256 of a module's source file, or of all Python files of a package."""
  folders = getattr(found, '__path__', None)
  if not folders:
    return hashlib.sha256(text(found)).hexdigest()
  source = hashlib.sha256()
  for folder in folders:
    for file in sorted(pathlib.Path(folder).rglob('*.py')):
      source.update(f'{file.relative_to(folder)}\n'.encode() + file.read_bytes())
  return source.hexdigest()
