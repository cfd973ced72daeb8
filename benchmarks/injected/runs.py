"""The small run that faults are injected into, each time in a process forked from this one.

The parent process imports everything and starts no JAX back end, so that a fork is safe and a case
takes the time of the run alone.
"""

import contextlib
import gc
import hashlib
import importlib
import json
import os
import pathlib
import resource
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
RUN = pathlib.Path('runs', 'a')
SMALL = (
  '--config.data.name=npz:set.npz',
  '--config.network.name=mlp',
  '--config.network.hidden=(4,)',
  '--config.teacher.steps=4',
  '--config.student.steps=4',
  '--config.teacher.members=2',
  '--config.teacher.batch_size=16',
  '--config.student.batch_size=16',
  '--config.evaluate.batch_size=16',
  '--config.evaluate.shift=none',
  '--config.evaluate.ood=none',
  '--config.scores=1',
  '--config.logs=2',
  '--config.steps_per_call=2',
  '--config.checkpoint_seconds=0',
  '--workdir=runs/a',
)
PICTURE = 'reliability'
PATIENCE = 200  # seconds until a process counts as one that hangs
# Threads of these libraries would not survive a fork; one core is enough for this network.
ONE_THREAD = {'OPENBLAS_NUM_THREADS': '1', 'OMP_NUM_THREADS': '1', 'JAX_PLATFORMS': 'cpu'}


class Ended(NamedTuple):
  """How a process ended: its exit code (negative: a signal's number), output and seconds."""

  code: int
  text: str
  seconds: float
  after_signal: float | None = None  # seconds from the signal to the end

  @property
  def lines(self) -> list[str]:
    """The lines of the command itself."""
    return [line for line in self.text.splitlines() if line.startswith('ensdistill: ')]

  @property
  def wrong(self) -> str:
    """What is wrong with the output of any process: a traceback, or several last words; or ''."""
    if 'Traceback' in self.text:
      return f'a traceback: {self.text.strip().splitlines()[-1][:200]}'
    if self.code not in (0, 1, 2, 130, 143):
      return f'exit code {self.code}: {self.text[-200:]}'
    if self.code and len(self.lines) != 1:
      return f'exit code {self.code} with {len(self.lines)} lines: {self.text[-200:]}'
    return ''


class Small(NamedTuple):
  """A small run: its work folder, arguments, and what it leaves if nothing disturbs it."""

  folder: pathlib.Path
  arguments: tuple[str, ...]
  left: dict
  seconds: float

  def fresh(self, name: str) -> pathlib.Path:
    """Return a new folder with the data set of the run."""
    folder = self.folder / name
    folder.mkdir()
    os.link(self.folder / 'set.npz', folder / 'set.npz')
    return folder

  def run(self, folder, *, before: Callable | None = None, after=None, number=0) -> Ended:
    """Run the command in a folder; `before` injects a fault. After seconds, send a signal."""
    arguments = list(self.arguments)
    return forked(lambda: command(arguments), folder, before=before, after=after, number=number)

  def different(self, folder) -> list[str]:
    """Return what differs from the run that nothing disturbed."""
    try:
      return differences(self.left, left(folder))
    except (OSError, ValueError, KeyError) as error:
      return [repr(error)]


def small(folder: pathlib.Path, cache: pathlib.Path, arguments: tuple[str, ...] = ()) -> Small:
  """Prepare this process and the compilation cache; return the small run.

  arguments: of another run, in place of the small one.
  """
  os.environ.update(ONE_THREAD)
  _data_set(folder / 'set.npz')
  os.environ['ENSDISTILL_CACHE'] = str(cache)
  own = arguments or ('--config=kd_digits', *SMALL)
  modules = folder / 'modules.json'
  _import(json.loads(modules.read_text()) if modules.exists() else [])
  run = Small(folder, own, {}, 0)
  for name in ('first', 'second', 'whole'):  # the second reads the cache, the third is timed
    place = run.fresh(name)
    ended = forked(lambda: _named_modules(own, modules), place)
    if ended.code:
      raise SystemExit(ended.text)
    _import(json.loads(modules.read_text()))
  _warm()
  whole = run._replace(left=left(folder / 'whole'), seconds=ended.seconds)
  for name in ('first', 'second'):
    if found := whole.different(folder / name):
      raise SystemExit(f'undisturbed runs differ: {found}')
  threads = os.listdir('/proc/self/task')
  if len(threads) > 1:
    raise SystemExit(f'{len(threads)} threads run in the parent process')
  return whole


def _data_set(path) -> None:
  random = np.random.default_rng(0)
  x = random.standard_normal((60, 3)).astype(np.float32)
  y = (x[:, 0] > 0).astype(np.int64)
  parts = {'train': slice(0, 32), 'valid': slice(32, 46), 'test': slice(46, 60)}
  arrays: dict[str, Any] = {f'x_{name}': x[part] for name, part in parts.items()}
  arrays |= {f'y_{name}': y[part] for name, part in parts.items()}
  np.savez(path, **arrays)


def _named_modules(arguments, path) -> None:
  """Run the command and write the names of all modules that it imported."""
  command(arguments)
  path.write_text(json.dumps(sorted(sys.modules)))


def _import(names) -> None:
  for name in names:
    with contextlib.suppress(Exception):
      if name != '__main__':
        importlib.import_module(name)


def _warm() -> None:
  """Do once what every run would do again: ask git, read fonts. Leave one picture to draw."""
  import matplotlib.pyplot as plt

  from ensdistill import runtime
  from ensdistill.report import figures
  from ensdistill.report.figures import style

  runtime.commit()
  figure, _ = plt.subplots()
  style.png(figure), style.svg(figure)
  plt.close(figure)
  figures.FIGURES = {PICTURE: figures.FIGURES[PICTURE]}  # the others are written as this one is
  gc.collect()
  gc.freeze()


def command(arguments) -> None:
  """Train as the command line does."""
  from ensdistill import main

  sys.argv = [str(ROOT / 'ensdistill' / 'main.py'), *arguments]
  main.main(arguments)


def forked(
  function: Callable,
  folder,
  *,
  before: Callable | None = None,
  after: float | None = None,
  number: int = 0,
  limit: int = 0,
) -> Ended:
  """Call a function in a forked process in a folder; return how it ended.

  after: seconds until the process gets the signal `number`. limit: bytes of address space.
  """
  log, began = pathlib.Path(folder, 'log.txt'), time.monotonic()
  sys.stdout.flush()
  process = os.fork()
  if process == 0:
    _child(function, folder, log, before, limit)
  sent = None
  if after is not None:
    time.sleep(after)
    sent = time.monotonic()
    with contextlib.suppress(ProcessLookupError):
      os.kill(process, number)
  status = _ended(process)
  now = time.monotonic()
  code = os.waitstatus_to_exitcode(status)
  text = log.read_text(errors='replace')
  return Ended(code, text, now - began, now - sent if sent else None)


def _ended(process: int) -> int:
  """Wait for a process; end one that hangs."""
  until = time.monotonic() + PATIENCE
  pause = 0.002
  while time.monotonic() < until:
    found, status = os.waitpid(process, os.WNOHANG)
    if found:
      return status
    time.sleep(pause)
    pause = min(0.02, 1.5 * pause)
  os.kill(process, signal.SIGKILL)
  return os.waitpid(process, 0)[1]


def _child(function, folder, log, before, limit) -> None:
  """Run the function in this forked process, which ends."""
  code = 70
  try:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # jobs in the background ignore it
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.chdir(folder)
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.ftruncate(descriptor, 0)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    if limit:
      resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    if before:
      before()
    code = _exit_code(function)
    sys.stdout.flush()
    for thread in threading.enumerate():
      if thread is not threading.current_thread() and not thread.daemon:
        thread.join(5)
  except BaseException:
    traceback.print_exc()
    sys.stderr.flush()
  finally:
    os._exit(code)


def _exit_code(function) -> int:
  try:
    function()
  except SystemExit as error:
    if isinstance(error.code, str):
      print(error.code, file=sys.stderr)
      return 1
    return error.code or 0
  return 0


def left(folder) -> dict[str, Any]:
  """Return what a run leaves, without times and folders."""
  from ensdistill.storage import seals

  folder = pathlib.Path(folder)
  run = folder / RUN
  found: dict[str, Any] = {'results': results(run), 'metrics': metrics(run)}
  found['settings'] = seals.read_json(run / 'config.json', remedy='')
  for path in sorted([*run.glob('student*/*'), *folder.glob('runs/teachers/*/*')]):
    if path.suffix == '.safetensors':  # a compiled form also holds the lines that made it
      found[str(path.relative_to(folder))] = hashlib.sha256(path.read_bytes()).hexdigest()
  for seal in folder.glob('runs/**/*.seal'):
    names = seals.unseal(seal.read_bytes())['files']
    seals.read(seal.parent, seal.name.removesuffix('.seal'), names, remedy='')
  rest = [p for p in folder.glob('runs/**/*') if p.suffix == '.part' or p.name == 'checkpoints']
  found['rest'] = sorted(str(path.relative_to(folder)) for path in rest)
  found['page'] = (run / 'report.html').stat().st_size > 0
  return found


def results(run: pathlib.Path) -> dict:
  """Return the sealed results of a run, without times, what made them, and names of pictures."""
  from ensdistill.storage import seals

  found: dict = seals.read_json(run / 'results.json', remedy='') or {}
  for name in ('timings', 'made_by', 'versions', 'pictures'):
    del found[name]
  for row in found['rows']:
    for values in (row['metrics'], row['se']):
      for name in [name for name in values if name.startswith('ms_per_example')]:
        del values[name]
  return found


def metrics(run: pathlib.Path) -> list[dict]:
  """Return the lines of metrics.jsonl."""
  return [json.loads(line) for line in (run / 'metrics.jsonl').read_text().splitlines()]


def differences(a, b, where: str = '') -> list[str]:
  """Return the paths at which two JSON values differ."""
  if isinstance(a, dict) and isinstance(b, dict):
    names = sorted(a.keys() | b.keys())
    return [d for n in names for d in differences(a.get(n), b.get(n), f'{where}/{n}')]
  if isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
    return [d for i, (x, y) in enumerate(zip(a, b)) for d in differences(x, y, f'{where}/{i}')]
  return [] if a == b else [f'{where}: {a!r:.80} against {b!r:.80}']


def value_of(function: Callable, folder, limit: int = 0) -> Any:
  """Return what a function returns in a forked process, as JSON holds it."""
  path = pathlib.Path(folder, 'value.json')

  def write():
    path.write_text(json.dumps(function()))

  ended = forked(write, folder, limit=limit)
  if ended.code:
    raise RuntimeError(ended.text[-3000:])
  return json.loads(path.read_text())
