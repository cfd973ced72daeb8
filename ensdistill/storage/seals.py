"""Seals: files that a run leaves are verified by their SHA-256 before they are read back.

LABEL.seal lies beside the files that it covers. Its first line holds their digests as JSON, its
last line the SHA-256 of the line before it, compared byte for byte. The seal is written before the
files, so that a kill between them never leaves a new file that looks like one without a seal.
"""

import hashlib
import json
import math
import os
import pathlib
import stat
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from ensdistill.storage import safe

MADE_BY = 'made_by'  # JSON files with this entry were sealed when they were written


class Damaged(ValueError):
  """A file that a run left is damaged or missing: `path`, what is wrong, and the remedy."""

  def __init__(self, path, problem: str, remedy: str):
    super().__init__(path, problem, remedy)
    self.path, self.problem, self.remedy = pathlib.Path(path), problem, remedy

  def __str__(self):
    return f'{self.path} {self.problem}: {self.remedy}'


class StudentError(Damaged):
  """Something is wrong with a student's folder."""


def differs(path, here: str = '') -> Damaged:
  """Return the error of a file that this process reads otherwise than the first one.

  here: the host of this process.
  """
  problem = f'is not what process 0 reads on {here}' if here else 'is not what process 0 reads'
  return Damaged(path, problem, 'use a folder that is the same on all hosts')


class Sealed(NamedTuple):
  """Files that were read, and the content of their seal; None for folders without seals."""

  files: dict[str, bytes]
  facts: dict | None


def print_error(text: str) -> None:
  """Print a line to the error stream."""
  print(text, file=sys.stderr, flush=True)


def strict(value: Any) -> Any:
  """Return a value as strict JSON can hold it: null in place of NaN and infinity."""
  if isinstance(value, dict):
    return {k: strict(v) for k, v in value.items()}
  if isinstance(value, list | tuple):
    return [strict(v) for v in value]
  if hasattr(value, 'item'):
    value = value.item()
  if isinstance(value, float) and not math.isfinite(value):
    return None
  return value


def seal(content: Mapping) -> str:
  """Return the content as a line of JSON, and a line with the digest of the first line."""
  line = json.dumps(content) + '\n'
  return f'{line}{hashlib.sha256(line.encode()).hexdigest()}\n'


def unseal(content: bytes) -> dict:
  """Return the content of a seal; raise ValueError if it is damaged."""
  end = content.find(b'\n') + 1
  line, last = content[:end], content[end:]
  if last and last == f'{hashlib.sha256(line).hexdigest()}\n'.encode():
    return parse(line)
  try:
    old = parse(content)  # version 0.1.0 wrote {'sha256', 'manifest'}
  except ValueError:
    old = {}
  if old.keys() != {'sha256', 'manifest'}:
    raise ValueError('invalid seal')
  digest = hashlib.sha256(json.dumps(old['manifest']).encode()).hexdigest()
  if digest != old['sha256'] or not isinstance(old['manifest'], dict):
    raise ValueError('the content of the manifest has changed')
  return old['manifest']


def parse(content: bytes) -> dict:
  """Return the object of strict JSON; raise ValueError for anything else."""

  def refuse(constant):
    raise ValueError(f'{constant} is not strict JSON')

  try:
    found = json.loads(content, parse_constant=refuse)
  except RecursionError:
    raise ValueError('too deeply nested') from None
  if not isinstance(found, dict):
    raise ValueError(f'it holds a {type(found).__name__}')
  return found


def write(folder, label: str, files: Mapping[str, bytes | str], **facts: Any) -> None:
  """Write LABEL.seal and the files, the last one last; files that lie there unchanged stay.

  While a single file is replaced, its seal allows both contents: a kill leaves one of them. A kill
  while several files are replaced leaves a group that is damaged until it is written again.
  """
  folder = pathlib.Path(folder)
  contents = {n: c.encode() if isinstance(c, str) else c for n, c in files.items()}
  new = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
  path = folder / f'{label}.seal'
  final = seal({'files': new, **facts})
  present = _acceptable(folder, path, new)
  if present == new and path.exists() and path.read_bytes() == final.encode():
    return
  replaced = len(new) == 1 and present not in (None, new)
  safe.write_atomic(path, seal({'files': new, 'before': present, **facts}) if replaced else final)
  for name, content in contents.items():
    safe.write_atomic(folder / name, content)
  if replaced:
    safe.write_atomic(path, final)


def _acceptable(folder, path, names) -> dict[str, str] | None:
  """Return the digests of files that lie there; None if one is missing or fails its seal."""
  try:
    found = {name: hashlib.sha256(_read(folder / name)).hexdigest() for name in names}
    sealed = unseal(_read(path)) if path.exists() else None
  except (OSError, ValueError):
    return None
  return found if sealed is None or found in (sealed.get('files'), sealed.get('before')) else None


def read(
  folder,
  label: str,
  names: Iterable[str],
  *,
  remedy: str,
  error: Callable[[Any, str, str], Damaged] = Damaged,
) -> Sealed | None:
  """Return the files that LABEL.seal covers; None if neither they nor the seal exist.

  Files without a seal are returned with `facts` None, unless they say that they had one. Raises
  `error` with the damaged file and the remedy.
  """
  folder, names = pathlib.Path(folder), list(names)
  paths = [folder / name for name in names]
  path = folder / f'{label}.seal'
  if not any(os.path.lexists(p) for p in [path, *paths]):
    return None
  try:
    return _verified(path, paths)
  except Damaged:  # perhaps another process was replacing the file: look again
    try:
      return _verified(path, paths)
    except Damaged as found:
      raise error(found.path, found.problem, remedy) from None


def _verified(path: pathlib.Path, paths: list[pathlib.Path]) -> Sealed:
  sealed = None
  if os.path.lexists(path):
    try:
      sealed = unseal(content(path))
    except ValueError as error:
      raise error if isinstance(error, Damaged) else _damaged(path, str(error)) from None
  files = {file.name: content(file) for file in paths}
  if sealed is None:
    if any(_was_sealed(name, data) for name, data in files.items()):
      raise _damaged(path, 'it is missing')
    return Sealed(files, None)
  digests = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
  allowed = [known for known in (sealed.get('files'), sealed.get('before')) if known]
  if not any(isinstance(known, dict) and digests.items() <= known.items() for known in allowed):
    known = allowed[0] if allowed and isinstance(allowed[0], dict) else {}
    wrong = next((n for n, digest in digests.items() if known.get(n) != digest), path.name)
    raise _damaged(path.with_name(wrong), 'its content has changed')
  return Sealed(files, sealed)


def content(path: pathlib.Path) -> bytes:
  """Return the content of a regular file; raise Damaged if it cannot be read."""
  try:
    return _read(path)
  except FileNotFoundError:
    raise _damaged(path, 'it is missing') from None
  except OSError as error:
    raise _damaged(path, error.strerror or str(error)) from None


def _read(path) -> bytes:
  """Return the content of a regular file; a pipe or a device is not opened for reading."""
  descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
  with open(descriptor, 'rb') as file:
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
      raise OSError(0, 'it is not a regular file')
    return file.read()


def _was_sealed(name: str, data: bytes) -> bool:
  try:
    return name.endswith('.json') and MADE_BY in parse(data)
  except ValueError:
    return False


def _damaged(path, reason: str) -> Damaged:
  return Damaged(path, f'is damaged ({reason})', '')


def compare(folder: pathlib.Path, expected: Mapping[str, str]) -> None:
  """Raise ValueError unless the files of a folder have these digests."""
  for name, digest in expected.items():
    if safe.sha256(folder / name) != digest:
      raise ValueError(f'the content of {folder.name}/{name} has changed')


def write_json(path, value: Mapping, **facts: Any) -> None:
  """Write a file of strict JSON and its seal."""
  path = pathlib.Path(path)
  write(path.parent, path.name, {path.name: to_json(value)}, **facts)


def to_json(value: Mapping) -> str:
  """Return strict JSON, as all files of a run hold it."""
  return json.dumps(value, indent=2, allow_nan=False) + '\n'


def read_json(path, *, remedy: str, note: Callable[[str], None] | None = None) -> dict | None:
  """Return the object of a sealed JSON file; None if it does not exist.

  note: called with a line if the file has no seal.
  """
  path = pathlib.Path(path)
  found = read(path.parent, path.name, [path.name], remedy=remedy)
  if found is None:
    return None
  try:
    value = parse(found.files[path.name])
  except ValueError as reason:
    raise Damaged(path, f'is damaged ({reason})', remedy) from None
  if found.facts is None and note:
    note(unsealed(path))
  return value


def unsealed(path) -> str:
  """Return the line about a file or folder that was made before there were seals."""
  return f'{path} has no seal, as files of older versions: it is read without a check'
