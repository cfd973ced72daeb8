"""Atomic writes, file locks, and arrays in files with checksums."""

import contextlib
import fcntl
import hashlib
import json
import os
import pathlib
import re
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import IO, Any

import numpy as np
import safetensors
import safetensors.numpy

from ensdistill import stopping

_PART = re.compile(r'\..+\.(\d+)-\d+\.part')  # see `part_of`; the writer's process
_POLL = 0.2  # seconds between two attempts at a lock


@contextlib.contextmanager
def writing(path) -> Iterator[None]:
  """Name the file, or folder, and the cause in errors of writing it."""
  try:
    yield
  except OSError as error:
    cause = error.strerror or str(error)
    raise OSError(error.errno, f'cannot be written: {cause}', str(path)) from error


def write_atomic(path, content: bytes | str) -> None:
  """Write a file atomically, see `replacing`."""
  with replacing(path) as file:
    file.write(content.encode() if isinstance(content, str) else content)


@contextlib.contextmanager
def replacing(path) -> Iterator[IO[bytes]]:
  """Give a file to write; readers see the old content or the new content, never a part."""
  path = pathlib.Path(path)
  part = part_of(path)
  try:
    with writing(path):
      path.parent.mkdir(parents=True, exist_ok=True)
      with open(part, 'wb') as file:
        yield file
        file.flush()
        os.fsync(file.fileno())
      os.replace(part, path)
  except BaseException:
    with contextlib.suppress(OSError):  # the first error is the one to report
      part.unlink(missing_ok=True)
    raise


def part_of(path, label: str = '') -> pathlib.Path:
  """Return where a file or folder in the making lies, beside its place; see `sweep_parts`."""
  path = pathlib.Path(path)
  return path.with_name(f'.{path.name}{label}.{os.getpid()}-{threading.get_ident()}.part')


def sweep_parts(folder) -> None:
  """Remove what killed processes of this machine left unfinished in a folder and below it."""
  for path in list(pathlib.Path(folder).rglob('.*.part')):  # before any of them is removed
    part = _PART.fullmatch(path.name)
    if not part or _lives(int(part[1])):
      continue
    if path.is_dir() and not path.is_symlink():
      shutil.rmtree(path, ignore_errors=True)
    else:
      with contextlib.suppress(OSError):
        path.unlink()


def _lives(process: int) -> bool:
  try:
    os.kill(process, 0)
  except ProcessLookupError:
    return False
  except (PermissionError, OverflowError):  # another user's
    return True
  return True


def make_folder(path) -> pathlib.Path:
  """Create a folder; raise ValueError unless it is writable."""
  path = pathlib.Path(path)
  try:
    path.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=path):
      return path
  except OSError as error:
    raise ValueError(
      f'cannot write into {path} ({error.strerror}): choose another folder'
    ) from None


def sha256(path) -> str:
  """Return the hex digest of a file."""
  with open(path, 'rb') as file:
    return hashlib.file_digest(file, 'sha256').hexdigest()


@contextlib.contextmanager
def lock(path, waiting: Callable[[], None] | None = None):
  """Hold an exclusive lock on a file; call waiting() once if another process holds the lock.

  The file names its holder (see `holder`). The kernel releases the lock when its holder dies. The
  file is never removed: otherwise two processes could lock two files of the same name.
  """
  path = pathlib.Path(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  with open(path, 'ab') as file:
    while not _locked(file):
      if waiting:
        waiting()
        waiting = None
      stopping.check()
      time.sleep(_POLL)
    with contextlib.suppress(OSError):  # the name of the holder is a help, not a need
      os.ftruncate(file.fileno(), 0)
      os.write(file.fileno(), f'process {os.getpid()} on {socket.gethostname()}\n'.encode())
    yield


def alone(folder: pathlib.Path, quiet: bool = False):
  """Hold a run's folder for this process, with a message where it has to wait."""

  def say():
    if not quiet:
      who = holder(folder / 'lock')
      print(f'{folder}: waiting for another process that runs this ({who})', flush=True)

  return lock(folder / 'lock', waiting=say)


def _locked(file) -> bool:
  """Return whether a lock on a file was free, and is now held."""
  try:
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
  except BlockingIOError:
    return False
  return True


def is_locked(path) -> bool:
  """Return whether a process holds the lock on a file."""
  try:
    with open(path, 'r+b') as file:  # NFS locks only files that may be written
      return not _locked(file)
  except FileNotFoundError:
    return False


def holder(path) -> str:
  """Return the last process that held the lock on a file, as text."""
  with contextlib.suppress(OSError):
    return pathlib.Path(path).read_text(errors='replace').strip() or 'another process'
  return 'another process'


def flatten(tree: Mapping) -> dict[str, np.ndarray]:
  """Return a nested dict of arrays as {'params/stem/kernel': array}, without empty branches."""
  import jax  # takes a second; the other functions do not need it

  flat: dict[str, Any] = {}

  def walk(prefix, node):
    for name, value in node.items():
      if not isinstance(name, str) or not name or '/' in name:
        raise ValueError(f"names in a tree must be strings without '/', got {name!r} in {prefix!r}")
      if isinstance(value, Mapping):
        walk(f'{prefix}{name}/', value)
      else:
        flat[prefix + name] = value

  walk('', tree)
  return {name: np.asarray(value) for name, value in jax.device_get(flat).items()}


def unflatten(flat: Mapping) -> dict:
  """Return the nested dict of {'params/stem/kernel': array}."""
  tree: dict[str, Any] = {}
  for path, value in flat.items():
    *branches, leaf = path.split('/')
    node = tree
    for name in branches:
      node = node.setdefault(name, {})
      if not isinstance(node, dict):
        raise ValueError(f'{path!r}: {name!r} is both an array and a branch')
    if leaf in node:
      raise ValueError(f'{path!r} is both an array and a branch')
    node[leaf] = value
  return tree


def tensors_content(path, tensors: Mapping, metadata: Mapping | None = None) -> bytes:
  """Return the content of a safetensors file of arrays (see `flatten`) and JSON metadata.

  `path` is where the file goes, for messages.
  """
  # The serialiser ignores strides, so transposed views are first copied into C order.
  arrays = {name: np.asarray(array, order='C') for name, array in tensors.items()}
  for name, array in arrays.items():
    if array.dtype.kind not in 'biuf':
      raise ValueError(
        f'{path}: cannot store {name!r} of type {array.dtype}: use integers, floats or booleans'
      )
  # A single entry, because the order of several entries is random and would change the digest.
  entries = {'json': json.dumps(dict(metadata or {}), sort_keys=True)}
  return safetensors.numpy.save(arrays, metadata=entries)


def parse_tensors(content: bytes) -> dict[str, np.ndarray]:
  """Return the arrays of a safetensors file's content; raise ValueError if it is damaged."""
  try:
    return safetensors.numpy.load(content)
  except (safetensors.SafetensorError, ValueError, KeyError, AttributeError, TypeError) as error:
    raise ValueError(repr(error)) from None
