"""Writers of a run's numbers and pictures: to metrics.jsonl, TensorBoard files and the terminal."""

import errno
import json
import pathlib
import sys
from collections.abc import Callable, Mapping

import numpy as np

from ensdistill.logs import events, progress, sinks
from ensdistill.logs.events import FINAL
from ensdistill.storage import safe

_HPARAMS = '.hparams'  # the end of the names of files with hyper-parameters and final metrics


class Silent:
  """The interface of every writer; this one writes nothing."""

  def scalars(self, step: int, values: Mapping, *, stage: str):
    """Write the values of one step of a stage."""

  def image(self, name: str, array, step: int = 0, *, stage: str = FINAL):
    """Write a uint8 picture [H, W, C] with 1, 3 or 4 channels."""

  def text(self, name: str, text: str, step: int = 0, *, stage: str = FINAL):
    """Write a text in Markdown."""

  def hparams(self, hparams: Mapping, metrics: Mapping, columns: events.Columns | None = None):
    """Write nested settings and the final metrics of a run."""

  def progress(self, stage: str, total_steps: int, *, start: int = 0, examples_per_step: int):
    """Return the progress display of a stage."""
    return progress.Progress()

  def line(self, text: str):
    """Print a line."""

  def resume(self, stage: str, step: int):
    """Remove what an interrupted run wrote of this stage after `step`."""

  def close(self):
    """Close all files."""

  def __enter__(self):
    return self

  def __exit__(self, *error):
    self.close()


class Writer(Silent):
  """The writer of one run's folder.

  TensorBoard sees one run, tb/, with the stages as groups of tags. A resumed stage writes the files
  there anew, without its own later steps. Hyper-parameters and final metrics have a file of their
  own, which a later evaluation replaces.
  """

  def __init__(
    self,
    folder: str | pathlib.Path,
    *,
    quiet: bool = False,
    stream=None,
    trackers: Mapping[str, Callable] | None = None,
    name: str = '',
    settings: Mapping | None = None,
  ):
    """Open the writer of a folder.

    Args:
      folder: the run's folder.
      quiet: print nothing.
      stream: where lines are printed; stderr by default.
      trackers: {name: (run) -> tracker}, as sinks.chosen returns them.
      name: the run's name in the trackers.
      settings: the run's nested settings, for the trackers.
    """
    self.folder = pathlib.Path(folder)
    self._jsonl = self.folder / 'metrics.jsonl'
    self._begun = False
    self._stream = None if quiet else stream or sys.stderr
    self._events: events.Events | None = None
    self._progress: progress.Progress | None = None
    self.folder.mkdir(parents=True, exist_ok=True)
    self._keep_lines(_any_line)
    self._sinks: sinks.Sinks | None = None
    if trackers:
      run = sinks.Run(name, str(self.folder), events.flat(settings or {}))
      self._sinks = sinks.Sinks(trackers, run, self._last_steps(), self.line)

  def scalars(self, step: int, values: Mapping, *, stage: str):
    """Write a line of metrics.jsonl (null if not finite) and TensorBoard's 'stage/name'."""
    step, values = int(step), numbers(values)
    finite = {name: v if np.isfinite(v) else None for name, v in values.items()}
    line = json.dumps({'stage': stage, 'step': step, **finite}, allow_nan=False)
    if self._begun and not self._jsonl.exists():
      raise FileNotFoundError(
        f'{self._jsonl} was removed while the run was writing it: the same command trains again'
      )
    with safe.writing(self._jsonl), open(self._jsonl, 'a') as file:
      file.write(line + '\n')
    self._begun = True
    curves = [events.scalar(f'{stage}/{name}', value) for name, value in values.items()]
    self._summary(step, curves)
    if self._sinks:
      self._sinks.scalars(step, {k: v for k, v in finite.items() if v is not None}, stage)

  def image(self, name: str, array, step: int = 0, *, stage: str = FINAL):
    """Write a uint8 picture [H, W, C] with 1, 3 or 4 channels to TensorBoard's 'stage/name'."""
    array = np.asarray(fetch(array))
    self._summary(step, [events.image(f'{stage}/{name}', array)])
    if self._sinks:
      self._sinks.call('image', name, array, int(step))

  def text(self, name: str, text: str, step: int = 0, *, stage: str = FINAL):
    """Write a text in Markdown to TensorBoard's 'stage/name'."""
    self._summary(step, [events.text(f'{stage}/{name}', text)])
    if self._sinks:
      self._sinks.call('text', name, text, int(step))

  def hparams(self, hparams: Mapping, metrics: Mapping, columns: events.Columns | None = None):
    """Write a row of TensorBoard's HPARAMS tab: nested settings and the metrics 'test/<name>'.

    The row of an earlier evaluation of this run is replaced.
    """
    final = numbers({name: v for name, v in metrics.items() if v is not None})
    content = events.hparams(hparams, final, str(self.folder), columns)
    folder = self.folder / 'tb'
    for path in folder.glob(f'*{_HPARAMS}'):
      path.unlink()
    safe.write_atomic(folder / (events.file_name() + _HPARAMS), content)
    if self._sinks:
      found = {name: value for name, value in final.items() if np.isfinite(value)}
      self._sinks.call('hparams', events.flat(hparams), found)

  def progress(self, stage: str, total_steps: int, *, start: int = 0, examples_per_step: int):
    """Return the progress display of a stage: a bar on a terminal, plain lines elsewhere."""
    if self._progress:
      self._progress.close()
    self._progress = progress.display(self._stream, stage, total_steps, start, examples_per_step)
    return self._progress

  def line(self, text: str):
    """Print a line, above the progress bar if there is one."""
    if self._progress:
      self._progress.line(text)
    elif self._stream:
      print(text, file=self._stream, flush=True)

  def resume(self, stage: str, step: int):
    """Remove what an interrupted run wrote of this stage after `step`."""
    self._keep_lines(lambda line: line['stage'] != stage or line['step'] <= step)
    folder = self.folder / 'tb'
    old = events.files(folder)
    if not old:
      return
    if self._events:
      self._events.close()
      self._events = None

    def wanted(tag: str, at: int) -> bool:  # a row of HPARAMS is written again at the end
      if tag.startswith((f'{FINAL}/', '_hparams_/')):
        return False
      return not tag.startswith(f'{stage}/') or at <= step

    with safe.writing(folder):
      content = events.kept(folder, wanted)
      safe.write_atomic(folder / events.file_name(), content)
      for path in old:
        path.unlink()

  def close(self):
    """Close all files and the progress display."""
    if self._progress:
      self._progress.close()
    self._progress = None
    if self._events:
      self._events.close()
    self._events = None
    if self._sinks:
      self._sinks.close()
    self._sinks = None

  def _summary(self, step: int, values: list):
    folder = self.folder / 'tb'
    with safe.writing(folder):
      if self._events is None:
        folder.mkdir(parents=True, exist_ok=True)
        # Unbuffered: a record reaches the kernel at once and survives a kill of the process.
        file = open(folder / events.file_name(), 'xb', buffering=0)
        self._events = events.Events(file)
      self._events.summary(int(step), values)

  def _last_steps(self) -> dict[str, int]:
    """Return the last step of each stage in metrics.jsonl."""
    steps: dict[str, int] = {}
    if self._jsonl.exists():
      for line in map(json.loads, self._jsonl.read_text().splitlines()):
        steps[line['stage']] = max(line['step'], steps.get(line['stage'], -1))
    return steps

  def _keep_lines(self, wanted: Callable[[dict], bool]):
    """Rewrite metrics.jsonl with the wanted lines; skip damaged lines, with a warning.

    A kill may leave the last line incomplete; it is dropped without a warning.
    """
    if not self._jsonl.exists():
      return
    if not self._jsonl.is_file():  # to open a pipe would wait for ever
      cause = 'cannot be written: it is not a regular file'
      raise OSError(errno.EINVAL, cause, str(self._jsonl))
    before = self._jsonl.read_bytes()
    kept, damaged = [], []
    for number, line in enumerate(before.split(b'\n')[:-1], 1):
      found = _parsed(line)
      if found is None:
        damaged.append(number)
      elif wanted(found):
        kept.append(line + b'\n')
    if damaged:
      more = f' and {len(damaged) - 1} more' if len(damaged) > 1 else ''
      self.line(f'warning: {self._jsonl}: line {damaged[0]}{more} damaged: skipped')
    after = b''.join(kept)
    if after != before:
      safe.write_atomic(self._jsonl, after)


def _parsed(line: bytes) -> dict | None:
  """Return a line of metrics.jsonl; None if it is damaged."""
  try:
    found = json.loads(line)
  except (ValueError, RecursionError):
    return None
  right = isinstance(found, dict) and isinstance(found.get('stage'), str)
  return found if right and type(found.get('step')) is int else None


def _any_line(line: dict) -> bool:
  return True


def fetch(values):
  """Return device arrays as numpy arrays, in one explicit transfer."""
  jax = sys.modules.get('jax')  # if nobody imported JAX, there are no device arrays
  return jax.device_get(values) if jax else values


def numbers(values: Mapping) -> dict[str, bool | int | float]:
  """Return values of any array type as Python numbers."""
  return dict(zip(values, map(number, fetch(list(values.values())))))


def number(value) -> bool | int | float:
  """Return a Python number; float32 becomes its shortest decimal (.1, not .10000000149)."""
  array = np.asarray(value)
  if array.size != 1:
    raise ValueError(f'a scalar must be one value, got an array of shape {array.shape}')
  if array.dtype.itemsize < 8 and array.dtype.kind not in 'biu':
    return float(str(array.reshape(()).astype(np.float32)))
  return array.item()
