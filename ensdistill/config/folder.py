"""The folder of a run: which configuration it belongs to, and starting it afresh."""

import contextlib
import pathlib
import re
import shutil
from collections.abc import Callable

from ensdistill.config import identity
from ensdistill.storage import safe, seals
from ensdistill.training.bad_steps import BAD_STEP

# What a run writes into its folder; nothing else in it is ever removed.
WRITTEN = (
  'config.json', 'config.json.seal', 'results.json', 'results.json.seal', 'metrics.jsonl',
  'sinks.json', 'report.html', 'report.md', 'report.tex',
  'checkpoints', 'figures', 'tb', 'profile', BAD_STEP,
)  # fmt: skip
STUDENT = re.compile(r'student(-averaged)?(-\d+)?(\.seal)?')  # of each seed, with their seals


class OtherSettings(ValueError):
  """The folder holds a run with other settings."""


def claim(folder: pathlib.Path, config, note: Callable[[str], None] | None = None) -> str:
  """Store the configuration in the run's folder; return a line to print, or ''.

  A folder of other settings is refused, unless nothing in it is worth keeping: nothing was saved,
  or a loss was not finite, which other settings may cure. It is then cleared.
  note: called with a line if the stored configuration has no seal.
  """
  path, decisive, line = folder / 'config.json', identity.decisive(config), ''
  remedy = f'remove {path} and {path.name}.seal and run the same command again'
  found = seals.read_json(path, remedy=remedy, note=note) if path.exists() else None
  if found is not None:
    changed = _changed(found, decisive)
    if changed and not _can_change(folder):
      raise OtherSettings(
        f'{folder} holds a run with other settings ({"; ".join(changed)}): choose another '
        '--workdir, or add --overwrite to start it afresh (teachers are kept)'
      )
    if changed:
      clear(folder)
      line = f'{folder}: starts afresh with changed settings ({"; ".join(changed)})'
  seals.write_json(path, identity.to_json(config))
  return line


def _changed(found: dict, decisive: dict) -> list[str]:
  """Return what differs from the stored settings of a run."""
  old = identity.flatten(found)
  known = {k: v for k, v in old.items() if k in decisive or identity.decides(k, v)}
  return identity.differences(known, decisive)


def _can_change(folder: pathlib.Path) -> bool:
  """Return whether other settings may replace those of a run: no stage of it finished."""
  if (folder / 'results.json').exists() or (folder / 'student').exists():
    return False
  checkpoints = folder / 'checkpoints'
  saved = checkpoints.is_dir() and any(path.is_dir() for path in checkpoints.iterdir())
  return not saved or (folder / BAD_STEP).exists()


def check_overwrite(folder: pathlib.Path) -> None:
  """Refuse a folder that is not a run's, and one in which a run is running."""
  if not folder.is_dir() or all(entry.name == 'lock' for entry in folder.iterdir()):
    return
  if not is_run(folder):
    raise ValueError(
      f'--overwrite: {folder} is not the folder of a run (it has no config.json of one): choose '
      'another --workdir, or remove it yourself'
    )
  if safe.is_locked(folder / 'lock'):
    raise ValueError(f'--overwrite: {safe.holder(folder / "lock")} runs in {folder}: stop it first')


def is_run(folder: pathlib.Path) -> bool:
  """Return whether a folder holds the settings of a run, sealed or beside what a run leaves."""
  path = folder / 'config.json'
  if path.with_name(f'{path.name}.seal').exists():
    return True
  if not path.exists():
    return False
  try:
    return {'teacher', 'student', 'objective'} <= seals.parse(seals.content(path)).keys()
  except ValueError:
    return (folder / 'metrics.jsonl').exists() or (folder / 'tb').is_dir()


def _order(name: str) -> bool:
  return name.startswith('config.json')


def clear(folder: pathlib.Path) -> None:
  """Remove what a run wrote into its folder, its settings last.

  Teachers, the lock and files that no run writes stay.
  """
  students = [path.name for path in folder.iterdir() if STUDENT.fullmatch(path.name)]
  for name in sorted((*WRITTEN, *students), key=_order):
    path = folder / name
    if path.is_dir() and not path.is_symlink():
      shutil.rmtree(path)
    else:
      with contextlib.suppress(FileNotFoundError):
        path.unlink()
