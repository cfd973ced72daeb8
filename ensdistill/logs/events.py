"""TensorBoard's event files, written record by record with the tensorboard package.

The package's own file writer is not used, because it imports TensorFlow wherever that is installed.
"""

import io
import os
import pathlib
import socket
import struct
import time
from collections.abc import Iterable, Mapping
from typing import Any, BinaryIO

import numpy as np


class Events:
  """A TensorBoard event file."""

  def __init__(self, file: BinaryIO):
    from tensorboard.summary.writer.record_writer import RecordWriter

    self._records = RecordWriter(file)
    self._write(file_version='brain.Event:2')

  def summary(self, step: int, values: Iterable):
    """Write the values of one step."""
    self._write(step=step, summary={'value': list(values)})

  def restart(self, step: int):
    """Make readers drop the values of this run from this step on."""
    self._write(step=step, session_log={'status': 'START'})

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


def hparams(settings: Mapping, metrics: Mapping[str, float], trial: str) -> bytes:
  """Return the event file of a row of the HPARAMS tab: nested settings and final metrics."""
  from tensorboard.plugins.hparams import plugin_data_pb2, summary_v2

  buffer = io.BytesIO()
  events = Events(buffer)
  events.summary(0, summary_v2.hparams_pb(flat(settings), trial_id=trial).value)
  events.summary(0, [scalar(f'final/{name}', value) for name, value in metrics.items()])
  ended = plugin_data_pb2.SessionEndInfo(status='STATUS_SUCCESS', end_time_secs=time.time())
  events.summary(0, [_session_value('session_end_info', ended)])
  return buffer.getvalue()


def _session_value(kind: str, info: Any) -> dict:
  """Return a message of the hparams plugin, which lies in the metadata of an empty tensor."""
  from tensorboard.plugins.hparams import metadata, plugin_data_pb2

  data = plugin_data_pb2.HParamsPluginData(**{kind: info})
  return {
    'tag': f'_hparams_/{kind}',
    'metadata': metadata.create_summary_metadata(data),
    'tensor': metadata.NULL_TENSOR,
  }


def flat(settings: Mapping, prefix: str = '') -> dict[str, bool | int | float | str]:
  """Return nested settings as {'a.b': value} of the types that the HPARAMS tab supports."""
  values: dict[str, bool | int | float | str] = {}
  for name, value in settings.items():
    if hasattr(value, 'items'):
      values |= flat(value, f'{prefix}{name}.')
    else:
      value = value.item() if isinstance(value, np.generic) else value
      plain = isinstance(value, bool | int | float | str)
      values[prefix + name] = value if plain else str(value)
  return values


def times(folder: pathlib.Path) -> dict[tuple[str, int], float]:
  """Return {(tag, step): time in seconds} of the scalars in a folder of event files."""
  from tensorboard.compat.proto import event_pb2

  found = {}
  for path in sorted(folder.glob('events.out.tfevents.*')):
    content, at = path.read_bytes(), 0
    while at + 12 <= len(content):  # length (8 bytes), its checksum (4), the event, a checksum (4)
      (length,) = struct.unpack('<Q', content[at : at + 8])
      event = event_pb2.Event.FromString(content[at + 12 : at + 12 + length])
      at += length + 16
      for value in event.summary.value:
        if value.HasField('simple_value'):
          found[value.tag, event.step] = event.wall_time
  return found
