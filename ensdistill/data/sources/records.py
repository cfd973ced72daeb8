"""Records written by TensorFlow Datasets: their description, and the examples in them."""

import contextlib
import functools
import hashlib
import itertools
import json
import pathlib
from collections.abc import Callable

import numpy as np

from ensdistill import stopping
from ensdistill.data import files
from ensdistill.data.errors import DataError, without_address
from ensdistill.data.images import decode, watched
from ensdistill.data.sources import npz
from ensdistill.storage import safe

FORMAT = 'array_record'
_CHUNK = 1000  # records that are read together


def dataset_info(folder: pathlib.Path) -> dict:
  """Return the content of dataset_info.json."""
  info = _json(folder / 'dataset_info.json')
  if info.get('fileFormat') != FORMAT:
    raise DataError(
      f'{folder} is prepared as {info.get("fileFormat", "tfrecord")}, which only TensorFlow reads: '
      f'remove it and prepare it again with file_format={FORMAT!r}'
    )
  return info


def feature_keys(folder) -> tuple[str, str | None, bool]:
  """Return the keys of image and label (or None), and whether examples have ids."""
  features = _features(folder)
  image = sorted(key for key, value in features.items() if 'image' in value)
  labels = sorted(key for key, value in features.items() if 'classLabel' in value)
  if len(image) != 1:
    raise DataError(
      f'{folder} has {len(image)} images per example ({", ".join(features)}), not one: choose '
      'another data set'
    )
  label = 'label' if 'label' in labels else labels[0] if len(labels) == 1 else None
  return image[0], label, 'text' in features.get('id', {})


def image_shape(folder) -> tuple[int, ...] | None:
  """Return the shape of every image, or None if they differ."""
  image = _features(folder)[feature_keys(folder)[0]]['image']
  dimensions = tuple(map(int, image.get('shape', {}).get('dimensions', ())))
  return dimensions if len(dimensions) == 3 and min(dimensions) > 0 else None


def class_count(folder) -> int | None:
  """Return the stated number of classes."""
  label = feature_keys(folder)[1]
  return int(_features(folder)[label]['classLabel']['numClasses']) if label else None


def class_names(folder) -> tuple[str, ...] | None:
  """Return the names of the classes, if the set has a file of them."""
  file = folder / f'{feature_keys(folder)[1]}.labels.txt'
  return tuple(file.read_text().split('\n')[: class_count(folder)]) if file.is_file() else None


def _features(folder) -> dict:
  return _json(folder / 'features.json').get('featuresDict', {}).get('features', {})


def _json(path):
  try:
    return json.loads(files.read(path))
  except (OSError, ValueError) as error:
    raise DataError(f'{path} cannot be read: {error}') from error


def decoded_split(folder: pathlib.Path, split: str) -> tuple[np.ndarray, np.ndarray | None]:
  """Return the images of a split, all of one size, and their labels."""
  kept = folder / f'decoded-{split}.npz'
  stamp = _stamp(folder, split)
  known = _kept(kept, stamp)
  if known is None:
    known = _decode(folder, split)
    _keep(kept, stamp, known)
  return known['x'], known.get('y')


def order_and_labels(folder: pathlib.Path, split: str) -> tuple[np.ndarray, np.ndarray | None]:
  """Return the order of a split's examples and their labels; every record is read once."""
  _, label_key, has_id = feature_keys(folder)
  if label_key is None and not has_id:
    return np.arange(_stated(folder, split)), None
  kept, stamp = folder / f'index-{split}.npz', _stamp(folder, split)
  index = _kept(kept, stamp)
  if index is None:
    y, ids = [], []
    for example in _examples(folder, split, 'reading the labels of'):
      y.append(example[label_key] if label_key else -1)
      ids.append(example['id'] if has_id else b'')
    rows = _order(ids)
    index = {'rows': rows}
    if label_key:
      index['y'] = np.array(y, np.int32)[rows]
    _keep(kept, stamp, index)
  return index['rows'], index.get('y')


class Records:
  """The encoded images of a split, in the order of `rows`."""

  def __init__(self, folder: pathlib.Path, split: str, rows: np.ndarray, states=None):
    self.folder, self._split, self._rows = folder, split, rows
    # (path, bytes, time stamp in ns) of the files when the set was found
    self._states = _states(folder, split) if states is None else states
    self._key = feature_keys(folder)[0]

  def __getstate__(self):  # every process opens the files itself
    return {k: v for k, v in self.__dict__.items() if k != '_source'}

  @functools.cached_property
  def _source(self):
    return _data_source(self.folder, self._split)

  def __len__(self):
    return len(self._rows)

  def take(self, rows) -> 'Records':
    return Records(self.folder, self._split, self._rows[rows], self._states)

  def where(self, row: int) -> str:
    return f'{self.folder}, split {self._split}, example {self._rows[row]}'

  def read(self, row: int) -> bytes:
    return self._source[int(self._rows[row])][self._key]

  def change(self, ended: Callable[[], bool]) -> str | None:
    """Return how a file differs from what it was when the set was found, the first one."""
    states = itertools.takewhile(lambda _: not ended(), self._states)
    return next(filter(None, (watched.difference(*state) for state in states)), None)

  def stamp(self) -> bytes:
    digest = hashlib.sha256(_stamp(self.folder, self._split).encode())
    digest.update(self._rows.astype(np.int64))
    return digest.digest()


def _states(folder, split) -> list[tuple[str, int, int]]:
  found = [(path, path.stat()) for path in sorted(folder.glob(f'*-{split}.{FORMAT}*'))]
  return [(str(path), status.st_size, status.st_mtime_ns) for path, status in found]


def _stamp(folder, split):
  """Return a hash of the set's description and of the names and sizes of the split's files."""
  digest = hashlib.sha256()
  for name in ('dataset_info.json', 'features.json'):
    digest.update((folder / name).read_bytes())
  for path in sorted(folder.glob(f'*-{split}.{FORMAT}*')):
    digest.update(f'{path.name} {path.stat().st_size};'.encode())
  return digest.hexdigest()


def _decode(folder, split) -> dict[str, np.ndarray]:
  """Return images x and labels y, if there are any, in the order of the examples' ids."""
  image_key, label_key, has_id = feature_keys(folder)
  x: list[np.ndarray] = []
  y, ids = [], []
  for example in _examples(folder, split, 'decoding'):
    try:
      image = np.asarray(decode.opened(example[image_key]))
    except MemoryError:
      raise
    except Exception as error:  # decoders raise errors of many kinds
      why = without_address(str(error))
      raise DataError(
        f'{folder}, split {split}, example {len(x)} cannot be read as an image ({why}): prepare '
        "the set again, or set data.unreadable='skip'"
      ) from None
    x.append(image if image.ndim == 3 else image[:, :, None])
    y.append(example[label_key] if label_key else -1)
    ids.append(example['id'] if has_id else b'')
  order = _order(ids)
  decoded = {'x': np.stack([x[i] for i in order])}
  if label_key:
    decoded['y'] = np.array(y, np.int32)[order]
  return decoded


def _order(ids: list[bytes]) -> np.ndarray:
  """Return the official order, by id: TFDS shuffles, and CIFAR validates on its last 5,000."""
  return np.array(sorted(range(len(ids)), key=ids.__getitem__), np.int64)


def _examples(folder, split, title: str):
  """Yield every example in the stored order, with its image encoded."""
  from tqdm import tqdm

  count = 0
  try:
    source = _data_source(folder, split)
    starts = range(0, len(source), _CHUNK)
    title = f'{folder.parent.name}: {title} {split}'
    for start in tqdm(starts, title, leave=False, disable=None):  # on a terminal only
      stopping.check()
      for example in source.__getitems__(range(start, min(start + _CHUNK, len(source)))):
        yield example
        count += 1
  except (OSError, ValueError, RuntimeError, IndexError, KeyError) as error:
    raise DataError(f'{folder}, split {split}, example {count}: {error}') from error
  if count != _stated(folder, split):
    raise DataError(
      f'{folder}, split {split} holds {count} examples, but dataset_info.json states '
      f'{_stated(folder, split)}: prepare the set again'
    )


def _stated(folder, split) -> int:
  """Return the stated number of a split's examples."""
  lengths = next(s['shardLengths'] for s in dataset_info(folder)['splits'] if s['name'] == split)
  return sum(map(int, lengths))


def _data_source(folder, split):
  import tensorflow_datasets as tfds  # slow to import

  decoders = {feature_keys(folder)[0]: tfds.decode.SkipDecoding()}
  return tfds.builder_from_directory(folder).as_data_source(split, decoders=decoders)


def _kept(path, stamp) -> dict[str, np.ndarray] | None:
  """Return the arrays kept in a file; None if it is missing, damaged, or of other records."""
  try:
    if str(npz.read_array(path, 'stamp')) == stamp:
      return {name: npz.read_array(path, name) for name in npz.array_names(path) - {'stamp'}}
  except DataError:
    pass
  return None


def _keep(path, stamp, arrays: dict[str, np.ndarray]) -> None:
  """Write the arrays if possible."""
  safe.sweep_parts(path.parent)  # of a killed process, which may be large
  with contextlib.suppress(OSError), safe.replacing(path) as file:
    np.savez(file, allow_pickle=False, stamp=np.array(stamp), **arrays)
