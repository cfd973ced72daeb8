"""Where a run's numbers and pictures go: metrics.jsonl, TensorBoard files, the terminal.

TensorBoard files are written record by record with the tensorboard package's own protocol buffers:
its file writer would import TensorFlow wherever that is installed.
"""

import io
import json
import os
import pathlib
import shutil
import socket
import sys
import time
from collections.abc import Mapping

import numpy as np

from ensdistill.logs import progress as progress_lib
from ensdistill.storage import safe


class Writer:
  """One for each run's folder.

  Curves go to tb/<stage>, a TensorBoard run of its own: a resumed stage takes back its own later
  steps and no other stage's. Hyper-parameters and final metrics go to tb/final.
  """

  def __init__(self, folder, *, quiet: bool = False, stream=None):
    self.folder = pathlib.Path(folder)
    self._jsonl = self.folder / 'metrics.jsonl'
    self._stream = None if quiet else stream or sys.stderr
    self._events = {}
    self._progress = None
    self.folder.mkdir(parents=True, exist_ok=True)
    self._drop_lines(lambda line: False)

  def scalars(self, step: int, values: Mapping, *, stage: str):
    """A line of metrics.jsonl (null for what is not finite) and TensorBoard's 'stage/name'."""
    step, values = int(step), numbers(values)
    finite = {name: v if np.isfinite(v) else None for name, v in values.items()}
    line = json.dumps({'stage': stage, 'step': step, **finite}, allow_nan=False)
    with open(self._jsonl, 'a') as file:
      file.write(line + '\n')
    curves = [{'tag': f'{stage}/{name}', 'simple_value': float(v)} for name, v in values.items()]
    self._run(stage).summary(step, curves)

  def image(self, name: str, array, step: int = 0, *, stage: str = 'report'):
    """A uint8 picture [H, W, C] with 1, 3 or 4 channels, for TensorBoard."""
    self._run(stage).summary(int(step), [{'tag': name, 'image': png(np.asarray(fetch(array)))}])

  def text(self, name: str, text: str, step: int = 0, *, stage: str = 'report'):
    """Markdown, for TensorBoard."""
    value = {
      'tag': name,
      'metadata': {'plugin_data': {'plugin_name': 'text'}},
      'tensor': {
        'dtype': 'DT_STRING',
        'tensor_shape': {'dim': [{'size': 1}]},
        'string_val': [text.encode()],
      },
    }
    self._run(stage).summary(int(step), [value])

  def hparams(self, hparams: Mapping, metrics: Mapping):
    """A row of the HPARAMS tab: a nested config and the final metrics, as 'final/name'.

    Written whole: the row of an earlier evaluation of this run is replaced.
    """
    from tensorboard.plugins.hparams import plugin_data_pb2, summary_v2

    final = numbers({name: v for name, v in sorted(metrics.items()) if v is not None})
    buffer = io.BytesIO()
    events = Events(buffer)
    events.summary(0, summary_v2.hparams_pb(flat(hparams), trial_id=str(self.folder)).value)
    events.summary(0, [{'tag': f'final/{n}', 'simple_value': float(v)} for n, v in final.items()])
    ended = plugin_data_pb2.SessionEndInfo(status='STATUS_SUCCESS', end_time_secs=time.time())
    events.summary(0, [session_value('session_end_info', ended)])
    folder = self.folder / 'tb' / 'final'
    shutil.rmtree(folder, ignore_errors=True)
    safe.write_atomic(folder / events_name(), buffer.getvalue())

  def progress(self, stage: str, total_steps: int, *, start: int = 0, examples_per_step: int):
    """A bar on a terminal, a few plain lines elsewhere; see progress.Progress."""
    if self._progress:
      self._progress.close()
    self._progress = progress_lib.make(self._stream, stage, total_steps, start, examples_per_step)
    return self._progress

  def line(self, text: str):
    """Prints a line, above the bar if there is one."""
    if self._progress:
      self._progress.line(text)
    elif self._stream:
      print(text, file=self._stream, flush=True)

  def resume(self, stage: str, step: int):
    """Takes back what a killed run wrote of this stage after `step`."""
    self._drop_lines(lambda line: line['stage'] == stage and line['step'] > step)
    if stage in self._events or (self.folder / 'tb' / stage).exists():
      self._run(stage).restart(step + 1)

  def close(self):
    if self._progress:
      self._progress.close()
    self._progress = None
    for events in self._events.values():
      events.close()
    self._events = {}

  def __enter__(self):
    return self

  def __exit__(self, *error):
    self.close()

  def _run(self, name: str):
    if name not in self._events:
      folder = self.folder / 'tb' / name
      folder.mkdir(parents=True, exist_ok=True)
      # Unbuffered: a record reaches the kernel at once, and outlives a kill of this process.
      self._events[name] = Events(open(folder / events_name(), 'xb', buffering=0))
    return self._events[name]

  def _drop_lines(self, unwanted):
    """Rewrites metrics.jsonl without the unwanted lines and without one that a kill cut off."""
    if not self._jsonl.exists():
      return

    def keeps(line):
      try:
        return line.endswith(b'\n') and not unwanted(json.loads(line))
      except ValueError:
        return False

    before = self._jsonl.read_bytes()
    after = b''.join(filter(keeps, before.splitlines(keepends=True)))
    if after != before:
      safe.write_atomic(self._jsonl, after)


class Silent:
  """Writes nothing: for processes that are not the first, and for tests."""

  def scalars(self, step: int, values: Mapping, *, stage: str):
    pass

  def image(self, name: str, array, step: int = 0, *, stage: str = 'report'):
    pass

  def text(self, name: str, text: str, step: int = 0, *, stage: str = 'report'):
    pass

  def hparams(self, hparams: Mapping, metrics: Mapping):
    pass

  def progress(self, stage: str, total_steps: int, *, start: int = 0, examples_per_step: int):
    return progress_lib.Progress()

  def line(self, text: str):
    pass

  def resume(self, stage: str, step: int):
    pass

  def close(self):
    pass

  def __enter__(self):
    return self

  def __exit__(self, *error):
    pass


class Events:
  """A TensorBoard event file."""

  def __init__(self, file):
    from tensorboard.summary.writer.record_writer import RecordWriter

    self._records = RecordWriter(file)
    self._write(file_version='brain.Event:2')

  def summary(self, step, values):
    self._write(step=step, summary={'value': list(values)})

  def restart(self, step):
    """Readers forget what this run had at this step and later."""
    self._write(step=step, session_log={'status': 'START'})

  def close(self):
    self._records.close()

  def _write(self, **fields):
    from tensorboard.compat.proto import event_pb2

    self._records.write(event_pb2.Event(wall_time=time.time(), **fields).SerializeToString())


def events_name() -> str:
  """Names sort by time, which is the order in which TensorBoard reads the files of a run."""
  return f'events.out.tfevents.{time.time_ns():020d}.{socket.gethostname()}.{os.getpid()}'


def session_value(kind: str, info) -> dict:
  """The hparams plugin keeps its messages in the metadata of an empty tensor."""
  from tensorboard.plugins.hparams import metadata, plugin_data_pb2

  data = plugin_data_pb2.HParamsPluginData(**{kind: info})
  return {
    'tag': f'_hparams_/{kind}',
    'metadata': metadata.create_summary_metadata(data),
    'tensor': metadata.NULL_TENSOR,
  }


def png(array_HWC) -> dict:
  from PIL import Image

  if array_HWC.dtype != np.uint8 or array_HWC.ndim != 3 or array_HWC.shape[2] not in (1, 3, 4):
    raise ValueError(
      'a picture is uint8 [height, width, 1, 3 or 4 channels], '
      f'got {array_HWC.dtype} {list(array_HWC.shape)}'
    )
  height, width, channels = array_HWC.shape
  file = io.BytesIO()
  Image.fromarray(array_HWC[:, :, 0] if channels == 1 else array_HWC).save(file, 'PNG')
  return {
    'height': height,
    'width': width,
    'colorspace': channels,
    'encoded_image_string': file.getvalue(),
  }


def fetch(values):
  """Device arrays as numpy, in one explicit transfer."""
  jax = sys.modules.get('jax')  # where nobody imported it there are none
  return jax.device_get(values) if jax else values


def numbers(values: Mapping) -> dict[str, bool | int | float]:
  return dict(zip(values, map(number, fetch(list(values.values())))))


def number(value) -> bool | int | float:
  """A Python number; float32 as the shortest decimal that names it (.1, not .10000000149)."""
  array = np.asarray(value)
  if array.size != 1:
    raise ValueError(f'a scalar has one value, got an array of shape {array.shape}')
  if array.dtype.itemsize < 8 and array.dtype.kind not in 'biu':
    return float(str(array.reshape(()).astype(np.float32)))
  return array.item()


def flat(config: Mapping, prefix: str = '') -> dict[str, bool | int | float | str]:
  """A nested config as {'a.b': value} of the types that TensorBoard's hyper-parameters have."""
  values = {}
  for name, value in config.items():
    if hasattr(value, 'items'):
      values |= flat(value, f'{prefix}{name}.')
    else:
      value = value.item() if isinstance(value, np.generic) else value
      plain = isinstance(value, bool | int | float | str)
      values[prefix + name] = value if plain else str(value)
  return values
