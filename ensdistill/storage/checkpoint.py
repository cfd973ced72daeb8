"""Training checkpoints: Orbax underneath, a SHA-256 manifest of our own beside it.

Orbax loads a flipped bit without a word, so every step has a manifest, written last: a step counts
once its manifest is there and every file agrees with it, else the one before is used.
"""

import contextlib
import hashlib
import itertools
import json
import pathlib
import re
import shutil
import sys
from collections.abc import Callable

import jax
import numpy as np
from absl import logging

from ensdistill.storage import packing, safe


def complain(text: str):
  print(text, file=sys.stderr, flush=True)


class Checkpointer:
  """The last `keep` states of one stage, in one folder: STEP/ by Orbax, its manifest STEP.json."""

  def __init__(self, folder, *, keep: int = 2, log: Callable[[str], None] = complain):
    if keep < 1:
      raise ValueError(f'a checkpointer keeps at least one step, got keep={keep}')
    import orbax.checkpoint as ocp  # .6 s: --help need not wait for it

    self._ocp = ocp
    self.folder = pathlib.Path(folder).absolute()
    self._keep = keep
    self._log = log
    self._damaged = set()
    self._first = jax.process_index() == 0
    with quiet():
      self._orbax = ocp.Checkpointer(ocp.PyTreeCheckpointHandler(use_compression=False))

  def save(self, step: int, state):
    """Writes a pytree of arrays (typed keys too); returns when it is safe on disk."""
    step = int(step)
    layout, arrays = packing.pack(state)
    name = next(n for n in versions(step) if not (self.folder / n).exists())
    with quiet():
      self._orbax.save(self.folder / name, arrays)
    if self._first:
      content = {'step': step, 'folder': name, 'layout': layout}
      content['files'] = digests(self.folder / name)
      safe.write_atomic(self._manifest(step), seal(content))
      self._damaged.discard(step)
      self._sweep(step)
    synchronise()

  def restore(self, like):
    """(step, state) of the newest good step, or None. Arrays take the shardings of `like`."""
    found = self._newest_good() if self._first else None
    if jax.process_count() > 1:
      from jax.experimental import multihost_utils

      step = int(multihost_utils.broadcast_one_to_all(np.int32(found['step'] if found else -1)))
      found = None if step < 0 else unseal(self._manifest(step).read_text())
    if found is None:
      return None
    source = self.folder / found['folder']
    leaves, structure = packing.named_leaves(like)
    packing.compare(found['layout'], leaves, source)
    arrays = self._read(source, found['layout'], leaves)
    values = packing.unpack(arrays, found['layout'], leaves)
    return found['step'], jax.tree.unflatten(structure, values)

  def remove(self):
    """Drops every step: the stage is finished."""
    remove(self.folder)

  def close(self):
    self._orbax.close()

  def __enter__(self):
    return self

  def __exit__(self, *error):
    self.close()

  def _manifest(self, step):
    return self.folder / f'{step}.json'

  def _read(self, source, layout, leaves):
    """What Orbax stored, as numpy; an array that spans processes comes placed like its leaf."""
    ocp, names, args = self._ocp, {}, {}
    for entry, (_, leaf) in zip(layout, leaves):
      if name := entry['array']:
        sharding = getattr(leaf, 'sharding', None)
        spans = sharding is not None and not sharding.is_fully_addressable
        names[name] = 0  # any leaf: it holds the place
        if spans and 'offset' not in entry:
          args[name] = ocp.ArrayRestoreArgs(sharding=sharding)
        else:
          args[name] = ocp.RestoreArgs(restore_type=np.ndarray)
    if not names:
      return {}
    with quiet():
      return self._orbax.restore(source, args=ocp.args.PyTreeRestore(names, restore_args=args))

  def _newest_good(self):
    """The manifest of the newest step whose files agree with it; the log names every other."""
    for step in sorted(self._steps(), reverse=True):
      try:
        manifest = unseal(self._manifest(step).read_text())
        check_files(self.folder / manifest['folder'], manifest['files'])
        return manifest
      except FileNotFoundError as error:
        reason = f'{pathlib.Path(error.filename).relative_to(self.folder)} is missing'
      except (ValueError, OSError) as error:
        reason = str(error)
      self._damaged.add(step)
      self._log(f'checkpoint {self.folder / str(step)} is damaged ({reason}): trying an older one')
    return None

  def _steps(self):
    """Every step of which anything but Orbax's own temporary folder is there."""
    entries = self.folder.iterdir() if self.folder.is_dir() else ()
    return {int(m[1]) for e in entries if (m := re.fullmatch(r'(\d+)(\.\d+|\.json)?', e.name))}

  def _sweep(self, step):
    """Drops what is older than the steps to keep, later than `step`, or was left by a kill."""
    keep = []
    for s in sorted(self._steps() - self._damaged, reverse=True):
      if s <= step and len(keep) < 2 * self._keep:
        with contextlib.suppress(ValueError, FileNotFoundError):
          keep += [unseal(self._manifest(s).read_text())['folder'], f'{s}.json']
    for entry in self.folder.iterdir():
      if entry.name in keep or not re.match(r'\.?\d+($|\.)', entry.name):
        continue
      if entry.is_dir():
        shutil.rmtree(entry, ignore_errors=True)
      else:
        entry.unlink(missing_ok=True)


def remove(folder):
  """Drops a folder of checkpoints, or a folder of such folders."""
  synchronise()
  if jax.process_index() == 0:
    shutil.rmtree(folder, ignore_errors=True)


def versions(step):
  """Folder names for a step: a step that is saved again never overwrites the one in use."""
  return itertools.chain([str(step)], (f'{step}.{i}' for i in itertools.count(1)))


def digests(folder) -> dict[str, str]:
  files = sorted(path for path in folder.rglob('*') if path.is_file())
  return {str(path.relative_to(folder)): safe.sha256(path) for path in files}


def check_files(folder, expected):
  for name, digest in expected.items():
    if safe.sha256(folder / name) != digest:
      raise ValueError(f'the content of {folder.name}/{name} has changed')


def seal(content) -> str:
  """JSON with the digest of itself."""
  digest = hashlib.sha256(json.dumps(content).encode()).hexdigest()
  return json.dumps({'sha256': digest, 'manifest': content})


def unseal(text) -> dict:
  sealed = json.loads(text)
  if not isinstance(sealed, dict) or sealed.keys() != {'sha256', 'manifest'}:
    raise ValueError('its manifest is no manifest')
  content = sealed['manifest']
  if hashlib.sha256(json.dumps(content).encode()).hexdigest() != sealed['sha256']:
    raise ValueError('its manifest has changed')
  return content


def synchronise():
  """Waits for every process."""
  if jax.process_count() > 1:
    from jax.experimental import multihost_utils

    multihost_utils.sync_global_devices('ensdistill.checkpoint')


@contextlib.contextmanager
def quiet():
  """Orbax tells of every step it takes; only its errors matter here."""
  before = logging.get_verbosity()
  logging.set_verbosity(logging.ERROR)
  try:
    yield
  finally:
    logging.set_verbosity(before)
