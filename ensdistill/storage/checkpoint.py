"""Training checkpoints: saved by Orbax, verified by a sealed manifest beside them.

Orbax does not detect flipped bits. So each step has a manifest, written last. A step is valid if
its manifest exists and every file matches it; otherwise the step before is used.
"""

import contextlib
import gc
import itertools
import os
import pathlib
import re
import shutil
import sys
import threading
from collections.abc import Callable, Collection, Mapping

import jax
import numpy as np
from absl import logging

from ensdistill import processes
from ensdistill.storage import packing, safe, seals


class Checkpointer:
  """The last `keep` states of one stage in a folder: STEP/ from Orbax and a manifest STEP.json.

  made_by: stored in every manifest.
  settings: fingerprint of the settings that decide the states; states of others are not restored.
  """

  def __init__(
    self,
    folder,
    *,
    keep: int = 2,
    log: Callable[[str], None] = seals.print_error,
    made_by: Mapping | None = None,
    settings: str = '',
  ):
    if keep < 1:
      raise ValueError(f'keep={keep} must be at least 1')
    import orbax.checkpoint as ocp  # takes .6 s, so not at start-up (--help)

    self._ocp = ocp
    self.folder = pathlib.Path(folder).absolute()
    self._keep = keep
    self._log = log
    self.facts: dict = {}  # of the restored step; saved with every step
    self._facts = {'settings': settings, seals.MADE_BY: dict(made_by or {})}
    self._damaged: set[int] = set()
    self._saved = False
    with quiet():
      self._orbax = ocp.Checkpointer(ocp.PyTreeCheckpointHandler(use_compression=False))

  def save(self, step: int, state):
    """Write a pytree of arrays, typed keys included; return once it is safe on disk."""
    step = int(step)
    layout, arrays = packing.pack(state)
    name = processes.agreed(lambda: self._new_folder(step), 'save')
    with _writing(self.folder / name), quiet(logging.FATAL):
      self._orbax.save(self.folder / name, arrays)

    def seal() -> None:
      content = {'step': step, 'folder': name, 'layout': layout, 'facts': self.facts}
      content |= self._facts
      content['files'] = digests(self.folder / name)
      safe.write_atomic(self._manifest(step), seals.seal(content))
      self._damaged.discard(step)
      self._sweep(step)

    processes.agreed(seal, 'seal')
    self._saved = True

  def _new_folder(self, step: int) -> str:
    """Return the name of a folder for a step that is not there yet."""
    if self._saved and not self.folder.is_dir():
      raise FileNotFoundError(
        f'{self.folder} was removed while the run was using it: the same command trains again'
      )
    return next(name for name in versions(step) if not (self.folder / name).exists())

  def restore(self, like, optional: Collection[str] = ()):
    """Return (step, state) of the newest valid step, or None; arrays are placed like `like`.

    Leaves whose names are `optional` may be missing: those of `like` are then returned. If `like`
    lacks them, stored ones are ignored.
    """
    valid = processes.agreed(self._newest_valid, 'restore')
    if valid is None:
      return None
    found = self._content(valid)
    source = self.folder / found['folder']
    every, structure = packing.named_leaves(like)
    asked, stored = dict(every), [entry['name'] for entry in found['layout']]
    ignored = set(optional) - (asked.keys() & set(stored))
    leaves = [(name, leaf) for name, leaf in every if name not in ignored]
    layout = [entry for entry in found['layout'] if entry['name'] not in ignored]
    packing.compare(layout, leaves, source)
    wanted = [(name, asked.get(name)) for name in stored]  # Orbax reads all arrays or none
    arrays = self._read(source, found['layout'], wanted)
    values = dict(zip([name for name, _ in leaves], packing.unpack(arrays, layout, leaves)))
    self.facts = found.get('facts', {})  # steps of earlier versions have none
    return found['step'], jax.tree.unflatten(structure, [values.get(*leaf) for leaf in every])

  def remove(self):
    """Remove all steps, once the stage is finished."""
    remove(self.folder)

  def close(self):
    self._orbax.close()

  def __enter__(self):
    return self

  def __exit__(self, *error):
    self.close()

  def _manifest(self, step):
    return self.folder / f'{step}.json'

  def _content(self, step) -> dict:
    return seals.unseal(self._manifest(step).read_bytes())

  def _read(self, source, layout, leaves):
    """Return the stored arrays, as NumPy arrays unless they span processes."""
    ocp, names, args = self._ocp, {}, {}
    for entry, (_, leaf) in zip(layout, leaves):
      if name := entry['array']:
        sharding = getattr(leaf, 'sharding', None)
        spans = sharding is not None and not sharding.is_fully_addressable
        names[name] = 0  # any leaf, as a placeholder
        if spans and 'offset' not in entry:
          args[name] = ocp.ArrayRestoreArgs(sharding=sharding)
        else:
          args[name] = ocp.RestoreArgs(restore_type=np.ndarray)
    if not names:
      return {}
    with quiet():
      return self._orbax.restore(source, args=ocp.args.PyTreeRestore(names, restore_args=args))

  def _newest_valid(self) -> int | None:
    """Return the newest valid step, or None; log the damaged steps."""
    for step in sorted(self._steps(), reverse=True):
      try:
        manifest = self._content(step)
        seals.compare(self.folder / manifest['folder'], manifest['files'])
        if manifest.get('settings', '') in ('', self._facts['settings']):
          return step
        reason = 'is of other settings'
      except FileNotFoundError as error:
        missing = pathlib.Path(error.filename).relative_to(self.folder)
        reason = f'is damaged ({missing} is missing)'
      except (ValueError, OSError) as error:
        reason = f'is damaged ({error})'
      self._damaged.add(step)
      self._log(f'checkpoint {self.folder / str(step)} {reason}: trying an older one')
    return None

  def _steps(self):
    """Return all steps with a folder or a manifest; Orbax's temporary folders do not count."""
    entries = self.folder.iterdir() if self.folder.is_dir() else ()
    return {int(m[1]) for e in entries if (m := re.fullmatch(r'(\d+)(\.\d+|\.json)?', e.name))}

  def _sweep(self, step):
    """Remove steps that are later than `step` or too old, and remains of interrupted saves."""
    keep: list[str] = []
    for s in sorted(self._steps() - self._damaged, reverse=True):
      if s <= step and len(keep) < 2 * self._keep:
        with contextlib.suppress(ValueError, FileNotFoundError):
          keep += [self._content(s)['folder'], f'{s}.json']
    for entry in self.folder.iterdir():
      if entry.name in keep or not re.match(r'\.?\d+($|\.)', entry.name):
        continue
      if entry.is_dir():
        shutil.rmtree(entry, ignore_errors=True)
      else:
        entry.unlink(missing_ok=True)


def remove(folder):
  """Remove a folder of checkpoints, or a folder of such folders."""

  def clear() -> None:
    shutil.rmtree(folder, ignore_errors=True)

  processes.each(None, 'remove')  # a process may still read there
  processes.agreed(clear, 'remove')


def remove_empty(folder):
  """Remove a folder of folders of checkpoints if nothing is left in it."""
  if processes.first():
    with contextlib.suppress(OSError):
      pathlib.Path(folder).rmdir()


def versions(step):
  """Yield folder names for a step, so that a second save never overwrites the first one."""
  return itertools.chain([str(step)], (f'{step}.{i}' for i in itertools.count(1)))


def digests(folder) -> dict[str, str]:
  """Return the SHA-256 of every file in a folder."""
  files = sorted(path for path in folder.rglob('*') if path.is_file())
  return {str(path.relative_to(folder)): safe.sha256(path) for path in files}


@contextlib.contextmanager
def _writing(folder):
  """Name the folder and the cause in errors of Orbax, which are of several kinds and long.

  Orbax's own threads would also print them, with their tracebacks. Writes that are still in flight
  end after Orbax has closed the event loop that waited for them, and would complain about it. This
  may happen at any later time, so complaints about closed loops stay hidden after a failure.
  """
  before, before_unraisable = threading.excepthook, sys.unraisablehook

  def hook(failed):
    if not _system_error(failed.exc_value):
      before(failed)

  def unraisable(left):
    if 'Event loop is closed' not in str(left.exc_value):
      before_unraisable(left)

  threading.excepthook, sys.unraisablehook, number = hook, unraisable, None
  try:
    yield
  except (OSError, ValueError, RuntimeError) as error:
    number = _system_error(error)
    if not number:
      raise
  finally:
    threading.excepthook = before
    if not number:
      sys.unraisablehook = before_unraisable
  if not number:
    return
  gc.collect()
  raise OSError(number, f'cannot be written: {os.strerror(number)}', str(folder))


def _system_error(error) -> int | None:
  """Return the system's number of an error, which TensorStore has in its text."""
  found = re.search(r"os_error_code='(\d+)'|OS error (\d+)", str(error))
  return getattr(error, 'errno', None) or (int(found[1] or found[2]) if found else None)


@contextlib.contextmanager
def quiet(level=logging.ERROR):
  """Hide Orbax's log messages, except errors."""
  before = logging.get_verbosity()
  logging.set_verbosity(level)
  try:
    yield
  finally:
    logging.set_verbosity(before)
