"""The folder of a run: which configuration has it, its results, and starting it afresh."""

import pathlib
import re
import shutil
from collections.abc import Callable

from ensdistill import names
from ensdistill.config import identity
from ensdistill.evaluation.rows import with_roles
from ensdistill.storage import safe, seals
from ensdistill.training.bad_steps import BAD_STEP

REMEDY = 'run its training command again, which makes it again, or leave the run out'
# What a run writes into its folder; nothing else in it is ever removed.
WRITTEN = (
  'config.json', 'config.json.seal', 'results.json', 'results.json.seal', 'metrics.jsonl',
  'sinks.json', 'report.html', 'report.md', 'report.tex',
  'checkpoints', 'figures', 'tb', 'profile', BAD_STEP,
)  # fmt: skip
STUDENT = re.compile(r'student(-averaged)?(-\d+)?(\.seal)?')  # of each seed, with their seals


class OtherSettings(ValueError):
  """The folder holds a run with other settings."""


def make(folder: pathlib.Path, overwrite: bool) -> None:
  """Create the folder of a run; with `overwrite` refuse one that may not be cleared."""
  safe.make_folder(folder)
  if overwrite:
    check_overwrite(folder)


def take(folder: pathlib.Path, config, overwrite: bool = False) -> None:
  """Store the configuration in the run's folder, as `claim` does; print a line if it says one.

  overwrite: clear the folder first.
  """
  if overwrite:
    clear(folder)
  line = claim(folder, config)
  if line:
    print(line, flush=True)


def claim(folder: pathlib.Path, config) -> str:
  """Store the configuration in the run's folder; return a line to print, or ''.

  A folder of other settings is refused, unless nothing in it is worth keeping: nothing was saved,
  or a loss was not finite, which other settings may cure. It is then cleared.
  """
  path, decisive, line = folder / 'config.json', identity.decisive(config), ''
  if not path.exists() and _has_other_results(folder, decisive):
    raise OtherSettings(
      f'{path} is missing, and {folder}/results.json is of other settings: choose another '
      '--workdir, or add --overwrite to start it afresh (teachers are kept)'
    )
  remedy = f'remove {path} and {path.name}.seal and run the same command again'
  finished = (folder / 'results.json').exists()  # then a line on its seal says enough
  note = None if finished else seals.print_error
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


def _has_other_results(folder: pathlib.Path, decisive: dict) -> bool:
  """Return whether a folder holds the results of a run with other settings."""
  try:
    return results(folder) is not None and results(folder, decisive) is None
  except seals.Damaged:
    return False


def _changed(found: dict, decisive: dict) -> list[str]:
  """Return what differs from the stored settings of a run."""
  old = names.flatten(found)
  known = {k: v for k, v in old.items() if k in decisive or identity.decides(k, v)}
  return identity.differences(known, decisive)


def _can_change(folder: pathlib.Path) -> bool:
  """Return whether other settings may replace those of a run: no stage of it finished."""
  if (folder / 'results.json').exists() or (folder / 'student').exists():
    return False
  checkpoints = folder / 'checkpoints'
  saved = checkpoints.is_dir() and any(path.is_dir() for path in checkpoints.iterdir())
  return not saved or (folder / BAD_STEP).exists()


def results(
  folder: str | pathlib.Path,
  decisive: dict | None = None,
  note: Callable[[str], None] | None = None,
) -> dict | None:
  """Return the results of a finished run; None if there are none (of these settings).

  Raises Damaged if they fail their seal. Rows of older results get their roles.
  note: called with a line if results.json has no seal.
  """
  path = pathlib.Path(folder) / 'results.json'
  found = seals.read_json(path, remedy=REMEDY, note=note)
  if found is None:
    return None
  rows = found.get('rows')
  if not isinstance(rows, list) or not all(map(_is_row, rows)):
    raise seals.Damaged(path, 'is damaged (it has no rows)', REMEDY)
  if decisive and found.get('config_fingerprint') != identity.fingerprint(decisive):
    return None
  return found | {'rows': with_roles(rows)}


def _is_row(row) -> bool:
  found = row if isinstance(row, dict) else {}
  return isinstance(found.get('name'), str) and isinstance(found.get('metrics'), dict)


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
      path.unlink(missing_ok=True)
