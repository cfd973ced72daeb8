"""TensorBoard's event files, written record by record with the tensorboard package.

The package's own file writer is not used, because it imports TensorFlow wherever that is installed.
"""

import io
import os
import pathlib
import socket
import struct
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from ensdistill import names


class Events:
  """A TensorBoard event file."""

  def __init__(self, file: BinaryIO):
    from tensorboard.summary.writer.record_writer import RecordWriter

    self._records = RecordWriter(file)
    self._write(file_version='brain.Event:2')

  def summary(self, step: int, values: Iterable):
    """Write the values of one step."""
    self._write(step=step, summary={'value': list(values)})

  def record(self, content: bytes):
    """Write an event as it was read from another file."""
    self._records.write(content)

  def close(self):
    """Close the file."""
    self._records.close()

  def _write(self, **fields):
    from tensorboard.compat.proto import event_pb2

    self._records.write(event_pb2.Event(wall_time=time.time(), **fields).SerializeToString())


def file_name() -> str:
  """Return the name of a new event file; TensorBoard reads the files of a run in order of time."""
  return f'events.out.tfevents.{time.time_ns():020d}.{socket.gethostname()}.{os.getpid()}'


def scalar(tag: str, value: float) -> dict:
  """Return a scalar of a summary."""
  return {'tag': tag, 'simple_value': float(value)}


def text(tag: str, content: str) -> dict:
  """Return a text of a summary, in Markdown."""
  return {
    'tag': tag,
    'metadata': {'plugin_data': {'plugin_name': 'text'}},
    'tensor': {
      'dtype': 'DT_STRING',
      'tensor_shape': {'dim': [{'size': 1}]},
      'string_val': [content.encode()],
    },
  }


def image(tag: str, array_HWC: np.ndarray) -> dict:
  """Return a picture of a summary from uint8 pixels with 1, 3 or 4 channels."""
  from PIL import Image

  if array_HWC.dtype != np.uint8 or array_HWC.ndim != 3 or array_HWC.shape[2] not in (1, 3, 4):
    raise ValueError(
      f'{tag} is {array_HWC.dtype} {list(array_HWC.shape)}: a picture must be uint8 '
      '[height, width, 1, 3 or 4 channels]'
    )
  height, width, channels = array_HWC.shape
  file = io.BytesIO()
  Image.fromarray(array_HWC[:, :, 0] if channels == 1 else array_HWC).save(file, 'PNG')
  encoded = {
    'height': height,
    'width': width,
    'colorspace': channels,
    'encoded_image_string': file.getvalue(),
  }
  return {'tag': tag, 'image': encoded}


FINAL = 'test'  # the group of the final metrics: it sorts after the stages' curves


class Columns(NamedTuple):
  """The columns of the HPARAMS tab; TensorBoard takes those of all runs from one."""

  changed: Collection[str]  # flat settings that come first
  others: Iterable[str]  # metrics that other runs may have


def hparams(
  settings: Mapping, metrics: Mapping[str, float], trial: str, columns: Columns | None = None
) -> bytes:
  """Return the event file of a row of the HPARAMS tab: nested settings and final metrics.

  columns: with them, the metrics keep their order, and curves are no columns.
  """
  from tensorboard.plugins.hparams import plugin_data_pb2, summary_v2

  buffer = io.BytesIO()
  events = Events(buffer)
  if columns:
    shown = dict.fromkeys([*metrics, *columns.others])
    found = _columns(flat(settings), shown, columns.changed)
    events.summary(0, [_session_value('experiment', found)])
  events.summary(0, summary_v2.hparams_pb(flat(settings), trial_id=trial).value)
  events.summary(0, [scalar(f'{FINAL}/{name}', value) for name, value in metrics.items()])
  ended = plugin_data_pb2.SessionEndInfo(status='STATUS_SUCCESS', end_time_secs=time.time())
  events.summary(0, [_session_value('session_end_info', ended)])
  return buffer.getvalue()


def _columns(settings: Mapping, metrics: Iterable[str], changed: Collection[str]) -> Any:
  """Return the columns of the HPARAMS tab, those of changed settings first."""
  from tensorboard.plugins.hparams import api_pb2

  def kind(value):
    if isinstance(value, bool):
      return api_pb2.DATA_TYPE_BOOL
    return api_pb2.DATA_TYPE_STRING if isinstance(value, str) else api_pb2.DATA_TYPE_FLOAT64

  return api_pb2.Experiment(
    hparam_infos=[
      api_pb2.HParamInfo(name=name, type=kind(value), differs=name in changed)
      for name, value in settings.items()
    ],
    metric_infos=[
      api_pb2.MetricInfo(name=api_pb2.MetricName(tag=f'{FINAL}/{name}')) for name in metrics
    ],
  )


def _session_value(kind: str, info: Any) -> dict:
  """Return a message of the hparams plugin, which lies in the metadata of an empty tensor."""
  from tensorboard.plugins.hparams import metadata, plugin_data_pb2

  data = plugin_data_pb2.HParamsPluginData(**{kind: info})
  return {
    'tag': f'_hparams_/{kind}',
    'metadata': metadata.create_summary_metadata(data),
    'tensor': metadata.NULL_TENSOR,
  }


def flat(settings: Mapping) -> dict[str, bool | int | float | str]:
  """Return nested settings as {'a.b': value} of the types that the HPARAMS tab supports."""
  return {name: _plain(value) for name, value in names.flatten(settings).items()}


def _plain(value: Any) -> bool | int | float | str:
  value = value.item() if isinstance(value, np.generic) else value
  return value if isinstance(value, bool | int | float | str) else str(value)


def records(folder: pathlib.Path) -> Iterator[Any]:
  """Yield the events of all files in a folder, in order.

  A record that a kill cut off is left out, and so is all that follows damage.
  """
  from google.protobuf.message import DecodeError
  from tensorboard.compat.proto import event_pb2

  for path in files(folder):
    content, at = path.read_bytes(), 0
    while at + 12 <= len(content):  # length (8 bytes), its checksum (4), the event, a checksum (4)
      (length,) = struct.unpack('<Q', content[at : at + 8])
      end = at + length + 16
      if end > len(content):
        break
      try:
        event = event_pb2.Event.FromString(content[at + 12 : end - 4])
      except DecodeError:
        break
      yield event
      at = end


def files(folder: pathlib.Path) -> list[pathlib.Path]:
  """Return the event files in a folder and below it, from the oldest to the newest."""
  return sorted(folder.rglob('events.out.tfevents.*'), key=lambda path: path.name)


def kept(folder: pathlib.Path, wanted: Callable[[str, int], bool]) -> bytes:
  """Return one event file with the values (tag, step) that are wanted, of all in a folder."""
  from tensorboard.compat.proto import event_pb2

  buffer = io.BytesIO()
  events = Events(buffer)
  for event in records(folder):
    values = [value for value in event.summary.value if wanted(value.tag, event.step)]
    if values:
      left = event_pb2.Event()
      left.CopyFrom(event)
      del left.summary.value[:]
      left.summary.value.extend(values)
      events.record(left.SerializeToString())
  return buffer.getvalue()


def times(folder: pathlib.Path) -> dict[tuple[str, int], float]:
  """Return {(tag, step): time in seconds} of the scalars in a folder of event files."""
  found = {}
  for event in records(folder):
    for value in event.summary.value:
      if value.HasField('simple_value'):
        found[value.tag, event.step] = event.wall_time
  return found
