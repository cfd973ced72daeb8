"""Rows of damaged files: read back in one process, and by commands."""

import contextlib
import os
import pathlib
import random
import shutil
import signal
from collections import Counter
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from benchmarks.injected import operations
from benchmarks.injected.cases import Case, Row
from benchmarks.injected.runs import RUN, Small, forked, value_of
from ensdistill.logs import writers

FLIPS, CUTS, COMMANDS, SLICE = 1000, 300, 60, 100
KINDS = ('.json', '.seal', '.safetensors', '.stablehlo')
TEACHERS = pathlib.Path('runs', 'teachers')


class Lines(writers.Silent):
  """A writer that keeps its lines."""

  def __init__(self):
    self.lines = []

  def line(self, text):
    self.lines.append(text)


def sealed_files(root) -> list[pathlib.Path]:
  """Return the files below a folder that are read back, relative to it."""
  found = [p for p in pathlib.Path(root).rglob('*') if p.is_file() and 'tb' not in p.parts]
  own = [p for p in found if p.suffix in KINDS or 'checkpoints' in p.parts]
  return sorted(p.relative_to(root) for p in own)


def read_all(run, teachers) -> tuple[dict, list[str]]:
  """Return (everything that is read back from a run, messages about damage)."""
  import ensdistill
  from ensdistill import export
  from ensdistill.report import runs
  from ensdistill.storage import sealed_arrays, seals

  found: dict[str, Any] = {}
  said: list[str] = []

  @contextlib.contextmanager
  def part():
    try:
      yield
    except ensdistill.Damaged as error:
      assert error.remedy and '\n' not in str(error)
      said.append(str(error))

  with part():
    found['config'] = seals.read_json(run / 'config.json', remedy='remedy', note=said.append)
  with part():
    (one,) = runs.read_runs([run], note=said.append)
    found['results'] = one.results
  with part():
    student = export.load(run / 'student', note=said.append)
    found['student'] = student.spec, jax.tree.map(np.asarray, student.variables)
  (teacher,) = teachers.iterdir()
  writer = Lines()
  names = {p.name.partition('.')[0] for p in teacher.glob('[mo]*_*')}
  for name in sorted(names):
    variables = sealed_arrays.load(teacher, name, writer.line)
    if variables is not None:
      found[name] = jax.tree.map(np.asarray, variables)
  with part():
    found['teacher.json'] = seals.read_json(teacher / 'teacher.json', remedy='remedy')
  for folder in sorted((run / 'checkpoints').glob('*')):
    fingerprint = found['results']['config_fingerprint'] if 'results' in found else None
    _checkpoint(folder, fingerprint, found, said)
  return found, said + writer.lines


def _checkpoint(folder, fingerprint: str | None, found: dict, said: list) -> None:
  """Read the newest checkpoint of a stage; one that is passed over counts as missing."""
  from ensdistill.storage import checkpoint

  if fingerprint is None:  # the damage to the results has been named
    return
  own: list[str] = []
  with checkpoint.Checkpointer(folder, log=own.append, settings=fingerprint) as checkpointer:
    newest = checkpointer._newest_valid()
  said += own
  if newest and not own:
    found[f'checkpoint of {folder.name}'] = newest


def same(a, b) -> bool:
  """Return whether two values that were read back are equal, bit for bit."""
  if str(jax.tree.structure(a)) != str(jax.tree.structure(b)):
    return False
  return all(np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b)))


def damages(content: bytes, rng, flips: int, cuts: int) -> Iterator[bytes | None]:
  """Yield damaged contents; None is a removal."""
  for _ in range(flips):
    flipped = bytearray(content)
    flipped[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    yield bytes(flipped)
  for _ in range(cuts):
    yield content[: rng.randrange(len(content))]
  yield None


def judged(run, teachers, good: dict, name: pathlib.Path) -> str:
  """Return what is wrong after damage to the file `name`: '' if it is named, or does not matter."""
  found, said = read_all(run, teachers)
  wrong = [key for key, value in found.items() if not same(value, good[key])]
  if wrong:
    return f'silently wrong: {wrong}'
  if not said and 'checkpoints' in name.parts and found.keys() == good.keys():
    return ''  # an older checkpoint, which nobody reads while the newest is whole
  known = {name.name, 'no seal'} | ({name.stem} if 'checkpoints' in name.parts else set())
  if not said or not all(any(word in line for word in known) for line in said):
    return f'not named: {said}'
  return ''


def finished(small: Small) -> pathlib.Path:
  """Return the folder of a finished run, killed before it removes its checkpoints."""
  folder = small.folder / 'finished'
  if not folder.exists():
    small.fresh('finished')

    def kill(event, path):
      if event == 'shutil.rmtree' and path.endswith('runs/a/checkpoints'):
        os.kill(os.getpid(), signal.SIGKILL)

    watch = operations.Operations(folder / 'runs', at=0, then=kill, later=True)
    small.run(folder, before=watch.install)
    assert (folder / RUN / 'results.json').exists() and (folder / RUN / 'checkpoints').exists()
  return folder


def read_back(small: Small, start: int, folder) -> list[Case]:
  """Damage 100 files of the finished run, one after the other, and read all of them back."""
  source = finished(small)
  shutil.copytree(source / 'runs', folder / 'runs')
  return [Case(*case) for case in value_of(lambda: _damage_many(folder, start), folder)]


def _damage_many(folder, start: int) -> list[Case]:
  run, teachers = folder / RUN, folder / TEACHERS
  good, said = read_all(run, teachers)
  assert not said, said
  names, rng = sealed_files(folder / 'runs'), random.Random(start)
  cases = []
  for number in range(start, min(start + SLICE, FLIPS + CUTS)):
    name = names[number % len(names)]
    path = folder / 'runs' / name
    content = path.read_bytes()
    flips, cuts = (1, 0) if number < FLIPS else (0, number % 3 != 0)
    damaged = next(damages(content, rng, flips, cuts))
    _damage(path, damaged)
    try:
      wrong = judged(run, teachers, good, name)
    except Exception as error:
      wrong = f'raised {error!r}'
    path.write_bytes(content)
    kind = 'flipped' if flips else 'cut' if damaged is not None else 'removed'
    about = f'{name} {kind}{f": {wrong}" if wrong else ""}'
    cases.append(
      Case(f'{kind}: named, nothing wrong' if not wrong else wrong[:14], not wrong, about)
    )
  return cases


def _damage(path, damaged: bytes | None) -> None:
  """Write the damaged content of a file, or remove the file."""
  if damaged is None:
    path.unlink()
  else:
    path.write_bytes(damaged)


def by_command(small: Small, number: int, folder) -> list[Case]:
  """Damage a file of the finished run, then run a command that reads it."""
  source, rng = finished(small), random.Random(number)
  shutil.copytree(source / 'runs', folder / 'runs')
  what = ('train', 'report', 'evaluate', 'resume')[number % 4]
  run = folder / RUN
  choices = {
    'train': [*run.glob('*.json*'), *run.glob('student/*')],
    'report': list(run.glob('*.json*')),
    'evaluate': list(run.glob('student/*')),
    'resume': [p for p in run.glob('checkpoints/**/*') if p.is_file()],
  }[what]
  path = rng.choice(sorted(p for p in choices if p.suffix not in ('.md', '.jsonl')))
  content = path.read_bytes()
  damaged = next(damages(content, rng, int(number % 8 < 4), int(number % 16 < 8)))
  _damage(path, damaged)
  if what == 'resume':
    for name in ('results.json', 'results.json.seal'):
      (run / name).unlink()
    shutil.rmtree(run / 'student')
  about = f'{what}, {path.relative_to(folder)} {"removed" if damaged is None else "damaged"}'
  return [_commanded(small, folder, what, path, about)]


def _commanded(small: Small, folder, what: str, path, about: str) -> Case:
  if what in ('train', 'resume'):
    ended = small.run(folder)
  else:
    ended = forked(lambda: _command(what), folder)
  if ended.wrong:
    return Case('no single line', False, f'{about}: {ended.wrong}')
  named = path.name in ended.text or path.stem in ended.text
  if ended.code:
    return Case(f'{what}: refused, the file named', named, f'{about}: {ended.lines}')
  if what in ('train', 'resume'):
    found = small.different(folder)
    outcome = f'{what}: made again, identical' if named else f'{what}: not read, identical'
    return Case(outcome, not found, f'{about}: {found[:2]}')
  return Case(f'{what}: shown in spite of the damage', False, about)


def _command(what: str) -> None:
  from ensdistill import cli

  argument = str(RUN) if what == 'report' else f'--student={RUN}/student'
  raise SystemExit(cli.main([what, argument]))


def kinds(small: Small) -> dict[str, int]:
  """Return how many files of each kind are damaged."""
  return dict(Counter(path.suffix or 'Orbax' for path in sealed_files(finished(small) / 'runs')))


def _cases(small: Small) -> int:
  del small
  return FLIPS + CUTS


def _commands(small: Small) -> int:
  del small
  return COMMANDS


ROWS = {
  'damage': Row('flipped bits, truncations, removals; all read back', _cases, read_back, SLICE),
  'commands': Row('the same, then a command that reads the file', _commands, by_command),
}
