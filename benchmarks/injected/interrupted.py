"""Rows of kills and signals."""

import os
import pathlib
import random
import re
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


def stop(number: signal.Signals):
  """Return the case of a signal at a random moment."""

  def case(small: Small, index: int, folder) -> Case:
    draw = random.Random(1000 * number + index)
    cold, real = index % 5 == 1, index % 10 == 2
    after = draw.uniform(0, (3 if cold else 1) * small.seconds + 2.5 * real)
    if real:
      ended = _process(small, folder, after, number)
    else:
      before = (lambda: os.environ.update(ENSDISTILL_CACHE=f'{folder}/cache')) if cold else None
      ended = small.run(folder, after=after, number=number, before=before)
    return _stopped(small, folder, ended, number, cold)

  return case


def _stopped(small: Small, folder, ended: Ended, number: int, cold: bool) -> Case:
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
  'kill': Row('SIGKILL at every file operation of a run', count, kill),
  'sigterm': Row('SIGTERM at random moments', _moments, stop(signal.SIGTERM)),
  'sigint': Row('SIGINT at random moments', _moments, stop(signal.SIGINT)),
}
