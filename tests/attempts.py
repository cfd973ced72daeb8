"""Hostile inputs given to their readers: any error but a documented one passes through."""

import json
import pathlib
import struct
import tempfile
import time
import tracemalloc

import hostile
import jax
from hypothesis import strategies as st

import ensdistill
from ensdistill import data, export
from ensdistill.config import bounds, settings
from ensdistill.storage import seals

_DOCUMENTED = (data.DataError, ValueError)
_MOST = 200_000_000  # bytes that a hostile file of some hundred bytes may take
_SECONDS = 20
# What an entry of a student's config.json may be by mistake, or on purpose.
VALUES = (
  None, True, -1, 0, 3, 10**9, 10**40, 1.5, -1e308, float('inf'), float('nan'), '', 'x', '../x',
  [], [0], [1] * 2000, [10**6] * 3, ['x'], [[1]], {}, {'name': 'mlp'}, {'a': {'b': 1}},
)  # fmt: skip


def data_set(name: str, **options) -> str:
  """Load a data set within bounded time and memory; return 'read' or 'refused'."""
  outcome = 'refused'
  began = time.monotonic()
  tracemalloc.start()
  try:
    data.load(name, **options)
    outcome = 'read'
  except _DOCUMENTED as error:
    assert '\n' not in str(error).strip(), error
  finally:
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
  assert peak < _MOST and time.monotonic() - began < _SECONDS
  return outcome


def file(kind: str, content: bytes, **options) -> str:
  """Load a data set that is one file."""
  with tempfile.TemporaryDirectory() as folder:
    path = pathlib.Path(folder, f'hostile.{kind}')
    path.write_bytes(content)
    return data_set(f'{kind}:{path}', **options)


def folder(content: bytes) -> str:
  """Load a folder of images, of which one is hostile."""
  with tempfile.TemporaryDirectory() as place:
    for label in ('cat', 'dog'):
      (pathlib.Path(place) / label).mkdir()
      for number in range(6):
        path = pathlib.Path(place, label, f'{number}.png')
        path.write_bytes(hostile.png(4, 4, bytes(4 * 13)) if number else content)
    return data_set(f'folder:{place}', size=4)


def setting_names() -> list[str]:
  """Return the names of all numeric settings."""
  return sorted(name for name, *_ in bounds.numbers(settings.default()))


def setting(name: str, value) -> str:
  """Set a setting: it is refused by name, or lies within its bounds."""
  config = settings.default()
  try:
    config.update_from_flattened_dict({name: value})
  except (TypeError, ValueError, OverflowError):  # of another type
    return 'refused'
  try:
    bounds.check(config)
  except ValueError as error:
    assert str(error).startswith(f'{name}=') and '\n' not in str(error)
    return 'refused'
  for section in name.split('.'):
    config = config[section]
  entries = config if isinstance(config, tuple) else [config]
  assert all(bounds.of(name).allow(entry) for entry in bounds._entries(entries))
  return 'read'


@st.composite
def students(draw, files: dict[str, bytes]) -> dict[str, bytes]:
  """Return the files of a student with other entries, other tensors, or damaged bytes."""
  files = dict(files)
  kind = draw(st.sampled_from(['entries', 'header', 'bytes', 'noise']))
  if kind == 'entries':
    spec = json.loads(files['config.json'])
    for _ in range(draw(st.integers(1, 3))):
      section = spec
      name = draw(st.sampled_from(sorted(section)))
      if isinstance(section[name], dict) and section[name] and draw(st.booleans()):
        section = section[name]
        name = draw(st.sampled_from([*sorted(section), 'depth', 'members', 'patch']))
      if draw(st.integers(0, 4)):
        section[name] = draw(st.one_of(st.sampled_from(VALUES), st.integers(-(10**9), 10**12)))
      else:
        section.pop(name, None)
      if not spec:
        break
    files['config.json'] = json.dumps(spec).encode()
  elif kind == 'header':
    weights = files['weights.safetensors']
    (size,) = struct.unpack('<Q', weights[:8])
    header = json.loads(weights[8 : 8 + size])
    entry = header[draw(st.sampled_from(sorted(header)))]
    field = draw(st.sampled_from(['dtype', 'shape', 'data_offsets', 'more']))
    odd = ['F64', 'I8', 'BF16', 'x', [0], [2**62, 2], [-1], [0, 2**63], [8, 0], [], None, {}]
    entry[field] = draw(st.sampled_from(odd))
    text = json.dumps(header).encode()
    files['weights.safetensors'] = struct.pack('<Q', len(text)) + text + weights[8 + size :]
  else:
    name = draw(st.sampled_from(sorted(files)))
    noise = st.binary(max_size=300)
    files[name] = draw(hostile.damaged(files[name]) if kind == 'bytes' else noise)
  return files


def student(files: dict[str, bytes], like: export.Model) -> str:
  """Load a sealed student: it has the tensors of a good one, or is refused."""
  began = time.monotonic()
  with tempfile.TemporaryDirectory() as place:
    seals.write(place, 'student', files)
    try:
      found = export.load(place)
    except ensdistill.StudentError as error:
      assert '\n' not in str(error) and place in str(error)
      return 'refused'
    else:
      assert jax.tree.structure(found.variables) == jax.tree.structure(like.variables)
      return 'read'
    finally:
      assert time.monotonic() - began < _SECONDS
