"""Records that TensorFlow Datasets has written: what a folder says of them, and what they hold."""

import contextlib
import functools
import hashlib
import io
import json
import os
import pathlib

import numpy as np

from ensdistill.data.dataset import DataError, Split
from ensdistill.data.sources import npz

FORMAT = 'array_record'
_CHUNK = 1000  # records that are read together


def info(folder: pathlib.Path) -> dict:
  """What a set says of itself."""
  said = _json(folder / 'dataset_info.json')
  if said.get('fileFormat') != FORMAT:
    raise DataError(
      f'{folder} is prepared as {said.get("fileFormat", "tfrecord")}, which only TensorFlow reads: '
      f'remove it and prepare it again with file_format={FORMAT!r}'
    )
  return said


def keys(folder) -> tuple[str, str | None, bool]:
  """The keys of a set's image and label (or None), and whether its examples have ids."""
  features = _features(folder)
  of_kind = lambda kind: sorted(key for key, value in features.items() if kind in value)
  image, labels = of_kind('image'), of_kind('classLabel')
  if len(image) != 1:
    raise DataError(f'{folder} has {len(image)} images an example ({", ".join(features)}), not one')
  label = 'label' if 'label' in labels else labels[0] if len(labels) == 1 else None
  return image[0], label, 'text' in features.get('id', {})


def shape(folder) -> tuple[int, ...] | None:
  """The shape of every image, or None where they differ."""
  image = _features(folder)[keys(folder)[0]]['image']
  dimensions = tuple(map(int, image.get('shape', {}).get('dimensions', ())))
  return dimensions if len(dimensions) == 3 and min(dimensions) > 0 else None


def targets(folder) -> int | None:
  """How many classes a set states."""
  label = keys(folder)[1]
  return int(_features(folder)[label]['classLabel']['numClasses']) if label else None


def classes(folder) -> tuple[str, ...] | None:
  """The names of a set's classes, where it has a file of them."""
  file = folder / f'{keys(folder)[1]}.labels.txt'
  return tuple(file.read_text().split('\n')[: targets(folder)]) if file.is_file() else None


def _features(folder) -> dict:
  return _json(folder / 'features.json').get('featuresDict', {}).get('features', {})


def _json(path):
  try:
    return json.loads(path.read_text())
  except (OSError, ValueError) as error:
    raise DataError(f'{path} cannot be read: {error}') from error


def read(folder: pathlib.Path, split: str) -> Split:
  """A split's images, of one size, and labels."""
  kept = folder / f'decoded-{split}.npz'
  stamp = _stamp(folder, split)
  known = _kept(kept, stamp)
  if known is None:
    decoded = _decode(folder, split)
    _keep(kept, stamp, decoded._asdict())
    return decoded
  return Split(known['x'], known.get('y'))


def index(folder: pathlib.Path, split: str) -> tuple[np.ndarray, np.ndarray | None]:
  """The order of a split's examples and their labels, for which every record is read once."""
  _, label_key, has_id = keys(folder)
  if label_key is None and not has_id:
    return np.arange(_stated(folder, split)), None
  kept, stamp = folder / f'index-{split}.npz', _stamp(folder, split)
  known = _kept(kept, stamp)
  if known is None:
    y, ids = [], []
    for example in _examples(folder, split, 'reading the labels of'):
      y.append(example[label_key] if label_key else -1)
      ids.append(example['id'] if has_id else b'')
    rows = _order(ids)
    known = {'rows': rows, 'y': np.array(y, np.int32)[rows] if label_key else None}
    _keep(kept, stamp, known)
  return known['rows'], known.get('y')


class Records:
  """Encoded images in the records of a split, in the order in which they are stored."""

  def __init__(self, folder: pathlib.Path, split: str, rows: np.ndarray):
    self.folder, self._split, self._rows = folder, split, rows
    self._key = keys(folder)[0]

  def __getstate__(self):  # a process opens the files for itself
    return {k: v for k, v in self.__dict__.items() if k != '_source'}

  @functools.cached_property
  def _source(self):
    return _data_source(self.folder, self._split)

  def __len__(self):
    return len(self._rows)

  def take(self, rows) -> 'Records':
    return Records(self.folder, self._split, self._rows[rows])

  def where(self, row: int) -> str:
    return f'{self.folder}, split {self._split}, example {self._rows[row]}'

  def read(self, row: int) -> bytes:
    return self._source[int(self._rows[row])][self._key]

  def stamp(self) -> bytes:
    digest = hashlib.sha256(_stamp(self.folder, self._split).encode())
    digest.update(self._rows.astype(np.int64))
    return digest.digest()


def _stamp(folder, split):
  """What the set says of itself and the names and sizes of the split's files, as a hash."""
  digest = hashlib.sha256()
  for name in ('dataset_info.json', 'features.json'):
    digest.update((folder / name).read_bytes())
  for path in sorted(folder.glob(f'*-{split}.{FORMAT}*')):
    digest.update(f'{path.name} {path.stat().st_size};'.encode())
  return digest.hexdigest()


def _decode(folder, split) -> Split:
  """Images and labels in the order of the examples' ids where there are any."""
  import PIL.Image

  image_key, label_key, has_id = keys(folder)
  x, y, ids = [], [], []
  for example in _examples(folder, split, 'decoding'):
    try:
      image = np.asarray(PIL.Image.open(io.BytesIO(example[image_key])))
    except Exception as error:  # decoders raise whatever they stumble over
      why = str(error).partition(' <')[0]  # the address of a buffer
      raise DataError(
        f'{folder}, split {split}, example {len(x)} cannot be read as an image ({why}): prepare '
        "the set again, or set data.unreadable='skip'"
      ) from None
    x.append(image if image.ndim == 3 else image[:, :, None])
    y.append(example[label_key] if label_key else -1)
    ids.append(example['id'] if has_id else b'')
  order = _order(ids)
  labels = np.array(y, np.int32)[order] if label_key else None
  return Split(np.stack([x[i] for i in order]), labels)


def _order(ids: list[bytes]) -> np.ndarray:
  """TFDS stores examples in a shuffled order; CIFAR's last 5,000 are meant in the official one."""
  return np.array(sorted(range(len(ids)), key=ids.__getitem__), np.int64)


def _examples(folder, split, doing: str):
  """Every example as it is stored, its image encoded."""
  from tqdm import tqdm

  count = 0
  try:
    source = _data_source(folder, split)
    starts = range(0, len(source), _CHUNK)
    title = f'{folder.parent.name}: {doing} {split}'
    for start in tqdm(starts, title, leave=False, disable=None):  # on a terminal only
      for example in source.__getitems__(range(start, min(start + _CHUNK, len(source)))):
        yield example
        count += 1
  except (OSError, ValueError, RuntimeError, IndexError, KeyError) as error:
    raise DataError(f'{folder}, split {split}, example {count}: {error}') from error
  if count != _stated(folder, split):
    raise DataError(
      f'{folder}, split {split}: {count} examples, {_stated(folder, split)} are stated'
    )


def _stated(folder, split) -> int:
  """How many examples a split has, by what the set says of itself."""
  lengths = next(s['shardLengths'] for s in info(folder)['splits'] if s['name'] == split)
  return sum(map(int, lengths))


def _data_source(folder, split):
  import tensorflow_datasets as tfds  # slow to import: only where something is decoded

  decoders = {keys(folder)[0]: tfds.decode.SkipDecoding()}
  return tfds.builder_from_directory(folder).as_data_source(split, decoders=decoders)


def _kept(path, stamp) -> dict | None:
  """The arrays that were kept; None where there are none, damaged ones, or those of other files."""
  try:
    if str(npz.array(path, 'stamp')) == stamp:
      return {name: npz.array(path, name) for name in npz.members(path) - {'stamp'}}
  except DataError:
    pass
  return None


def _keep(path, stamp, arrays: dict):
  """Keeps the arrays where that is possible; a reader sees the whole file or none."""
  temporary = path.with_name(f'{path.name}.{os.getpid()}.tmp')
  try:
    with open(temporary, 'wb') as file:
      np.savez(file, stamp=stamp, **{name: a for name, a in arrays.items() if a is not None})
    os.replace(temporary, path)
  except OSError:
    with contextlib.suppress(OSError):
      temporary.unlink(missing_ok=True)
