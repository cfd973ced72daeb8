"""Rows of kills and signals."""

import contextlib
import hashlib
import json
import os
import pathlib
import random
import re
import shutil
import signal
import subprocess
import sys
import time

from benchmarks.injected import operations
from benchmarks.injected.cases import Case, Row, continued
from benchmarks.injected.runs import ONE_THREAD, PATIENCE, ROOT, Ended, Small

WITHIN = 10  # seconds from a signal to the end, compilation aside
MOMENTS = 100


def count(small: Small) -> int:
  """Return the number of file operations of a run."""
  folder = small.folder / 'counted'
  if not folder.exists():
    ended = small.run(small.fresh('counted'), before=operations.counting(folder))
    if ended.code:
      raise SystemExit(ended.text)
  return len(operations.noted(folder))


def kill(small: Small, number: int, folder) -> Case:
  """Kill the run before its file operation `number`, then run the command again."""
  first = small.run(folder, before=operations.killing(folder, number))
  if first.code == 0:  # threads of Orbax make a few operations more or fewer
    return Case('had ended before', not small.different(folder))
  about = ' '.join(operations.noted(folder))
  if first.code != -signal.SIGKILL:
    return Case('was not killed', False, f'{about}: {first.text[-300:]}')
  return continued(small, folder, 'identical results', about)


def states(small: Small) -> list[pathlib.Path]:
  """Return copies of a run's folder, one for each file operation, as a kill there would leave it.

  Equal copies are the same path: many operations change nothing that a later run sees.
  """
  place = small.folder / 'states'
  order = place / 'order.json'
  if not order.exists():
    place.mkdir()
    folder = small.fresh('copied')
    names: list[int] = []
    known: dict[str, int] = {}

    def copy(event, path):
      name = known.setdefault(_content(folder / 'runs'), len(names))
      if name == len(names):
        _copy(folder / 'runs', place / str(name))
      names.append(name)
      order.write_text(json.dumps(names))

    watch = operations.Operations(folder / 'runs', at=0, then=copy, later=True)
    ended = small.run(folder, before=watch.install)
    if ended.code:
      raise SystemExit(ended.text)
  return [place / str(name) for name in json.loads(order.read_text())]


def _content(folder) -> str:
  """Return a digest of all names and contents below a folder, apart from numbers of processes."""
  digest = hashlib.sha256()
  for path in sorted(folder.rglob('*')):
    name = re.sub(r'\.\d+-\d+\.part$', '.part', str(path.relative_to(folder)))
    digest.update(f'{name}\0'.encode())
    with contextlib.suppress(OSError):
      digest.update(path.read_bytes() if path.is_file() else b'/')
  return digest.hexdigest()


def _copy(source, target) -> None:
  """Copy a folder that threads are changing: what vanishes meanwhile is left out."""
  with contextlib.suppress(FileNotFoundError):
    target.mkdir()
    for entry in list(os.scandir(source)) if source.exists() else ():
      if entry.is_dir():
        _copy(source / entry.name, target / entry.name)
      else:
        with contextlib.suppress(FileNotFoundError):
          shutil.copyfile(entry.path, target / entry.name)


def continue_from(small: Small, number: int, folder) -> Case:
  """Run the command from the folder as it was at an operation; equal folders are run once."""
  state = states(small)[number]
  judged = state.with_suffix('.json')
  if judged.exists():
    return Case(*json.loads(judged.read_text()))
  _copy(state, folder / 'runs')
  case = continued(small, folder, 'identical results', f'state {state.name}')
  judged.write_text(json.dumps(case))
  return case


def _states(small: Small) -> int:
  return len(states(small))


def stop(number: signal.Signals):
  """Return the case of a signal at a random moment."""

  def case(small: Small, index: int, folder) -> Case:
    draw = random.Random(1000 * number + index)
    cold, real = index % 10 == 1, index % 10 == 2
    after = draw.uniform(0, (3 if cold else 1) * small.seconds + 2.5 * real)
    if real:
      ended = _process(small, folder, after, number)
    else:
      before = (lambda: os.environ.update(ENSDISTILL_CACHE=f'{folder}/cache')) if cold else None
      ended = small.run(folder, after=after, number=number, before=before)
    return _stopped(small, folder, ended, number, cold, again=index % 2 == 0)

  return case


def _stopped(small: Small, folder, ended: Ended, number: int, cold: bool, again: bool) -> Case:
  seconds = ended.after_signal
  if ended.code == 0 and not ended.wrong:
    return Case('had ended before', not small.different(folder))
  if ended.code == -number or (ended.code == 128 + number and not ended.lines):
    if (folder / 'runs').exists():
      return Case('ended by the signal', False, ended.text[-300:], seconds)
    return Case('before the command began', True, '', seconds)
  if ended.wrong or ended.code != 128 + number:
    return Case('did not stop', False, ended.wrong or ended.text[-300:], seconds)
  (line,) = ended.lines
  if not re.match(r'ensdistill: stopped by SIG(TERM|INT): .*; continue with: .*--config=', line):
    return Case('another line', False, line, seconds)
  if seconds is not None and seconds > WITHIN and not cold:
    return Case('took too long', False, line, seconds)
  saved = line.split(': ', 2)[2].partition('; continue')[0]
  kind = re.sub(r' at step \d+ of \d+', ' at its step', saved)
  if not again:
    return Case(f'stopped ({kind})', True, saved, seconds)
  return continued(small, folder, f'stopped ({kind})', saved, seconds)


def _process(small: Small, folder, after: float, number: int) -> Ended:
  """Run the command in a new process of its own, and send it a signal."""
  log = pathlib.Path(folder, 'log.txt')
  with open(log, 'w') as file:
    process = subprocess.Popen(
      [sys.executable, '-m', 'ensdistill.main', *small.arguments],
      cwd=folder,
      env=os.environ | ONE_THREAD | {'PYTHONPATH': str(ROOT)},
      stdout=file,
      stderr=file,
      preexec_fn=_default_interrupt,
    )
  time.sleep(after)
  sent = time.monotonic()
  process.send_signal(number)
  code = process.wait(PATIENCE)
  now = time.monotonic()
  text = log.read_text()
  if code == -number and 'KeyboardInterrupt' in text and not (folder / 'runs').exists():
    text = ''  # Python's own words, before the command begins
  return Ended(code, text, now - sent + after, now - sent)


def _default_interrupt() -> None:
  signal.signal(signal.SIGINT, signal.default_int_handler)


def _moments(small: Small) -> int:
  del small
  return MOMENTS


ROWS = {
  'state': Row('the folder as at every file operation of a run, continued', _states, continue_from),
  'kill': Row('SIGKILL at every file operation of a run', count, kill),
  'sigterm': Row('SIGTERM at random moments', _moments, stop(signal.SIGTERM)),
  'sigint': Row('SIGINT at random moments', _moments, stop(signal.SIGINT)),
}
