"""Files that survive a kill: written whole or not at all, checked when read, locked in use."""

import contextlib
import fcntl
import hashlib
import json
import os
import pathlib
import tempfile
import threading
from collections.abc import Callable, Mapping

import numpy as np
import safetensors
import safetensors.numpy


def write_atomic(path, content: bytes | str):
  """Writes a file that readers see whole: the old one or the new one, never a part."""
  path = pathlib.Path(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  part = path.with_name(f'.{path.name}.{os.getpid()}-{threading.get_ident()}.part')
  try:
    with open(part, 'wb') as file:
      file.write(content.encode() if isinstance(content, str) else content)
      file.flush()
      os.fsync(file.fileno())
    os.replace(part, path)
  except BaseException:
    part.unlink(missing_ok=True)
    raise


def make_folder(path) -> pathlib.Path:
  """Makes a folder; ValueError unless files can be written into it."""
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
  """The hex digest of a file."""
  with open(path, 'rb') as file:
    return hashlib.file_digest(file, 'sha256').hexdigest()


@contextlib.contextmanager
def lock(path, waiting: Callable[[], None] = lambda: None):
  """Holds an exclusive lock on a file; calls waiting() once if another process has it.

  The kernel releases it when the holder dies. The file stays: removing it would let two in.
  """
  path = pathlib.Path(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  with open(path, 'ab') as file:
    try:
      fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
      waiting()
      fcntl.flock(file, fcntl.LOCK_EX)
    yield


def flatten(tree: Mapping) -> dict[str, np.ndarray]:
  """A nested dict of arrays as {'params/stem/kernel': array}; empty branches vanish."""
  import jax  # a second; what else is here needs none of it

  flat = {}

  def walk(prefix, node):
    for name, value in node.items():
      if not isinstance(name, str) or not name or '/' in name:
        raise ValueError(f"a name in a tree is a string without '/', got {name!r} in {prefix!r}")
      if isinstance(value, Mapping):
        walk(f'{prefix}{name}/', value)
      else:
        flat[prefix + name] = value

  walk('', tree)
  return {name: np.asarray(value) for name, value in jax.device_get(flat).items()}


def unflatten(flat: Mapping) -> dict:
  """The nested dict of {'params/stem/kernel': array}."""
  tree = {}
  for path, value in flat.items():
    *branches, leaf = path.split('/')
    node = tree
    for name in branches:
      node = node.setdefault(name, {})
      if not isinstance(node, dict):
        raise ValueError(f'{path!r}: {name!r} is an array and a branch at once')
    if leaf in node:
      raise ValueError(f'{path!r} is an array and a branch at once')
    node[leaf] = value
  return tree


def save_tensors(path, tensors: Mapping[str, np.ndarray], metadata: Mapping | None = None) -> str:
  """Writes arrays (see `flatten`) and JSON metadata as safetensors; returns the SHA-256."""
  # The serialiser takes memory as it lies, so transposed views are copied into C order first.
  arrays = {name: np.asarray(array, order='C') for name, array in tensors.items()}
  for name, array in arrays.items():
    if array.dtype.kind not in 'biuf':
      raise ValueError(f'{path}: cannot store {name!r} of type {array.dtype}')
  # One entry: the serialiser writes several in random order, and the digest would change with it.
  entries = {'json': json.dumps(dict(metadata or {}), sort_keys=True)}
  content = safetensors.numpy.save(arrays, metadata=entries)
  write_atomic(path, content)
  return hashlib.sha256(content).hexdigest()


def load_tensors(path, expected_sha256: str | None = None) -> dict[str, np.ndarray]:
  """The arrays that `save_tensors` wrote; ValueError where the file is damaged."""
  content = pathlib.Path(path).read_bytes()
  if expected_sha256 is not None and hashlib.sha256(content).hexdigest() != expected_sha256:
    raise ValueError(f'{path} is damaged: its SHA-256 is not {expected_sha256}')
  try:
    return safetensors.numpy.load(content)
  except (safetensors.SafetensorError, ValueError, KeyError) as error:
    raise ValueError(f'{path} is damaged: {error!r}') from None


def load_metadata(path) -> dict:
  """The metadata that `save_tensors` wrote, without reading the arrays."""
  try:
    with safetensors.safe_open(path, framework='numpy') as file:
      return json.loads((file.metadata() or {}).get('json', '{}'))
  except (safetensors.SafetensorError, ValueError) as error:
    raise ValueError(f'{path} is damaged: {error!r}') from None
