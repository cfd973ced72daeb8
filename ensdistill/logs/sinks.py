"""Trackers that a run reports to, beside TensorBoard and metrics.jsonl.

A tracker never stops a run. Each has a thread of its own, so that a slow server does not slow the
training down, and one that fails is switched off, with a warning.
"""

import importlib.util
import json
import pathlib
import queue
import threading
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

from ensdistill import imports, names
from ensdistill.logs import trackers
from ensdistill.logs.trackers import Run
from ensdistill.storage import safe

_WAITING = 100_000  # calls that may wait for a slow tracker; later ones are dropped
_SECONDS = 60.0  # that closing waits for a tracker


class Sink(Protocol):
  """A tracker of one run: a class that is called with a `Run`.

  Its attribute `id`, a text, is stored in the run's folder; a process that continues the run gets
  it back as `Run.id`. All numbers are finite.
  """

  id: str

  def scalars(self, step: int, values: Mapping[str, float], stage: str) -> None:
    """Log the values of one step of a stage; steps of a stage rise, stages begin anew."""

  def text(self, name: str, text: str, step: int) -> None:
    """Log a text in Markdown."""

  def image(self, name: str, array_HWC, step: int) -> None:
    """Log a uint8 picture."""

  def hparams(self, settings: Mapping[str, Any], metrics: Mapping[str, float]) -> None:
    """Log flat settings, and the final metrics of the run."""

  def close(self) -> None:
    """End the run in the tracker."""


METHODS = ('scalars', 'text', 'image', 'hparams', 'close')
# {name: (run) -> Sink}
SINKS = names.Registry(
  'tracker', {'wandb': trackers.Wandb, 'mlflow': trackers.Mlflow, 'trackio': trackers.Trackio}
)
PACKAGES = tuple(SINKS)  # packages, and extras of this one


def chosen(text: str | None) -> dict[str, Callable[[Run], Sink]]:
  """Return the trackers of a setting such as 'wandb,my_sink.py:Sink'.

  Raise ValueError for unknown ones, for missing packages, and for classes that are not trackers.
  """
  found: dict[str, Callable[[Run], Sink]] = {}
  for name in (part.strip() for part in (text or '').split(',')):
    if not name:
      continue
    if ':' in name:
      made = imports.attribute(name, f'sinks={name!r}')
    elif name in SINKS:
      made = SINKS[name]
    else:
      listing = "own trackers are written as 'module:Class' or 'file.py:Class'"
      raise names.unknown('tracker', name, SINKS, listing)
    if name in PACKAGES and importlib.util.find_spec(name) is None:
      raise ValueError(
        f"sinks={text!r}: {name} is not installed; pip install 'ensdistill[{name}]', or unset sinks"
      )
    lacks = [method for method in METHODS if not callable(getattr(made, method, None))]
    if isinstance(made, type) and lacks:
      raise ValueError(f'sinks={name!r}: the class lacks {", ".join(lacks)}: define them')
    if not callable(made):
      raise ValueError(f'sinks={name!r} is a {type(made).__name__}, not a class')
    found[name] = made
  return found


class _Call(NamedTuple):
  method: str
  arguments: tuple


class _Worker:
  """One tracker in a thread of its own; the first failure switches it off.

  A tracker that is switched off because too many calls wait is closed; those calls are dropped. One
  that raises an error is not called again.
  """

  def __init__(self, name: str, start: Callable[[], Sink], say: Callable[[str], None]):
    self.name, self._start, self._say = name, start, say
    self._calls: queue.Queue[_Call] = queue.Queue(_WAITING)
    self._off = False
    self._thread = threading.Thread(target=self._work, name=f'sink {name}', daemon=True)
    self._thread.start()

  def call(self, method: str, *arguments) -> None:
    """Hand a call over."""
    if self._off:
      return
    try:
      self._calls.put_nowait(_Call(method, arguments))
    except queue.Full:
      self._fail(f'more than {_WAITING} calls wait')

  def close(self) -> None:
    """Finish the waiting calls, and end the run in the tracker."""
    self.call('close')
    self._thread.join(_SECONDS)
    if self._thread.is_alive():
      self._fail(f'it does not end within {_SECONDS:g} seconds')

  def _work(self) -> None:
    try:
      sink = self._start()
      while True:
        method, arguments = self._calls.get()
        if self._off:
          method, arguments = 'close', ()
        getattr(sink, method)(*arguments)
        if method == 'close':
          return
    except BaseException as error:  # also SystemExit of a tracker
      self._fail(f'{type(error).__name__}: {next(iter(str(error).splitlines()), "")}')

  def _fail(self, reason: str) -> None:
    if not self._off:
      self._off = True
      self._say(f'warning: the tracker {self.name} is switched off for this run ({reason})')


class Sinks:
  """All trackers of a run.

  Args:
    makers: {name: (run) -> Sink}.
    run: the run; ids come from its folder.
    sent: {stage: last step} that earlier processes of the run have logged. A continued run repeats
      steps after its last checkpoint, which trackers have already.
    say: prints a line.
  """

  def __init__(self, makers: Mapping[str, Callable], run: Run, sent: Mapping[str, int], say):
    self._file = pathlib.Path(run.folder) / 'sinks.json'
    self._lock = threading.Lock()
    ids = _read(self._file)
    self._sent = {name: dict(sent) if name in ids else {} for name in makers}
    self._workers = [
      _Worker(name, self._starter(name, maker, run._replace(id=ids.get(name))), say)
      for name, maker in makers.items()
    ]

  def _starter(self, name: str, maker: Callable[[Run], Sink], run: Run) -> Callable[[], Sink]:
    def start() -> Sink:
      sink = maker(run)
      with self._lock:
        safe.write_atomic(self._file, json.dumps(_read(self._file) | {name: str(sink.id)}))
      return sink

    return start

  def scalars(self, step: int, values: Mapping[str, float], stage: str) -> None:
    """Log the values of one step of a stage, where they are not logged yet."""
    for worker in self._workers:
      if step > self._sent[worker.name].get(stage, -1):
        worker.call('scalars', step, values, stage)

  def call(self, method: str, *arguments) -> None:
    """Call a method of every tracker."""
    for worker in self._workers:
      worker.call(method, *arguments)

  def close(self) -> None:
    """Finish, and end the run in every tracker."""
    for worker in self._workers:
      worker.close()


def _read(file: pathlib.Path) -> dict[str, str]:
  """Return the stored ids; none where the file is missing or damaged."""
  try:
    found = json.loads(file.read_text())
  except (OSError, ValueError):
    return {}
  return found if isinstance(found, dict) else {}
