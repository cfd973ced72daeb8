"""Image sets that TensorFlow Datasets has prepared, read without TensorFlow.

Decoding 60,000 PNG files takes half a minute, so that a split is decoded once and kept beside its
files, where the folder can be written to; the copy states which files it was decoded from.
"""

import contextlib
import hashlib
import io
import json
import os
import pathlib
import re

import numpy as np

from ensdistill.data import images, npz
from ensdistill.data.dataset import DataError, MissingData, Source, Split

_FORMAT = 'array_record'
_VERSION = re.compile(r'\d+\.\d+\.\d+')
_CHUNK = 1000  # records that are read together
# Not in the catalogue of TFDS, so that no command prepares them.
_NOT_IN_TFDS = ('notmnist', 'tiny_imagenet_32')


def source(request, name: str) -> Source:
  """NAME, NAME/CONFIG or NAME:VERSION below the TFDS folder (its newest version unless named)."""
  folder = find(name, request.dir)
  info = _info(folder)
  stored = {split['name'] for split in info['splits']}
  parts = {'train': 'train', 'test': 'test'}
  if 'test' not in stored:
    parts['test'] = 'validation'
  elif 'validation' in stored:
    parts['valid'] = 'validation'
  return Source(
    request.name,
    {
      part: (lambda split=split: read(folder, split, request.shape))
      for part, split in parts.items()
      if split in stored
    },
    classes=_names(folder),
    targets=_classes(folder),
  )


def root(folder: str | None) -> pathlib.Path:
  """The folder of prepared sets: the one given, or where TFDS puts them."""
  folder = folder or os.environ.get('TFDS_DATA_DIR') or '~/tensorflow_datasets'
  return pathlib.Path(folder).expanduser()


def find(name: str, folder: str | None) -> pathlib.Path:
  """The folder of one version of a set, or the error that says how to fill it."""
  name, _, version = name.partition(':')
  base = root(folder) / name
  versions = [p for p in _subfolders(base) if _VERSION.fullmatch(p.name) and _is_set(p)]
  if version:
    versions = [p for p in versions if p.name == version]
  if versions:
    return max(versions, key=lambda p: tuple(int(n) for n in p.name.split('.')))
  configs = [p.name for p in _subfolders(base) if any(_is_set(v) for v in _subfolders(p))]
  if configs and not version:
    raise ValueError(f'{name!r} has several forms, name one: {name}/{", ".join(sorted(configs))}')
  raise MissingData(_remedy(name, version, root(folder)))


def exists(name: str, folder: str | None) -> bool:
  """Is a set of this name prepared here, in any version?"""
  return any(_is_set(p) for p in _subfolders(root(folder) / name))


def _remedy(name, version, folder):
  missing = f'data set {name!r} is not prepared: {folder / name} holds no '
  missing += f'version {version}' if version else 'version of it'
  if name in _NOT_IN_TFDS:
    return f'{missing}, and TFDS does not offer it. Put {name}.npz (x_test, y_test) into {folder}'
  full = f'{name}:{version}' if version else name
  return (
    f"{missing}. Fill it with: pip install 'ensdistill[tf]' && python -c \"import "
    f"tensorflow_datasets as tfds; tfds.builder('{full}', data_dir='{folder}')"
    f".download_and_prepare(file_format='{_FORMAT}')\""
  )


def _subfolders(folder):
  return [p for p in folder.iterdir() if p.is_dir()] if folder.is_dir() else []


def _is_set(folder):
  return (folder / 'dataset_info.json').is_file()


def _json(path):
  try:
    return json.loads(path.read_text())
  except (OSError, ValueError) as error:
    raise DataError(f'{path} cannot be read: {error}') from error


def _info(folder):
  info = _json(folder / 'dataset_info.json')
  if info.get('fileFormat') != _FORMAT:
    raise DataError(
      f'{folder} is prepared as {info.get("fileFormat", "tfrecord")}, which only TensorFlow reads: '
      f'remove it and prepare it again with file_format={_FORMAT!r}'
    )
  return info


def _features(folder):
  """The keys of a set's image and label (or None), and whether its examples have ids."""
  features = _json(folder / 'features.json').get('featuresDict', {}).get('features', {})
  of_kind = lambda kind: sorted(key for key, value in features.items() if kind in value)
  image, labels = of_kind('image'), of_kind('classLabel')
  if len(image) != 1:
    raise DataError(f'{folder} has {len(image)} images an example ({", ".join(features)}), not one')
  label = 'label' if 'label' in labels else labels[0] if len(labels) == 1 else None
  return image[0], label, 'text' in features.get('id', {})


def _classes(folder):
  """How many classes a set states, or None."""
  label = _features(folder)[1]
  features = _json(folder / 'features.json')['featuresDict']['features']
  return int(features[label]['classLabel']['numClasses']) if label else None


def _names(folder):
  """The names of a set's classes, where it has a file of them."""
  file = folder / f'{_features(folder)[1]}.labels.txt'
  return tuple(file.read_text().split('\n')[: _classes(folder)]) if file.is_file() else None


def read(folder: pathlib.Path, split: str, shape=None) -> Split:
  """A split's images and labels; images of different sizes only where a shape is asked for."""
  if not _one_size(folder):
    if shape is None:
      raise DataError(f'{folder}: its images differ in size')
    return _decode(folder, split, shape)
  kept, stamp = folder / f'decoded-{split}.npz', _stamp(folder, split)
  try:
    if str(npz.array(kept, 'stamp')) == stamp:
      return Split(npz.array(kept, 'x'), npz.array(kept, 'y') if 'y' in npz.members(kept) else None)
  except DataError:
    pass  # not there, or damaged: decoded again
  decoded = _decode(folder, split)
  _keep(kept, stamp, decoded)
  return decoded


def _one_size(folder):
  features = _json(folder / 'features.json')['featuresDict']['features']
  shape = features[_features(folder)[0]]['image'].get('shape', {}).get('dimensions', ())
  return len(shape) == 3 and all(int(n) > 0 for n in shape)


def _stamp(folder, split):
  """What the set says of itself and the names and sizes of the split's files, as a hash."""
  digest = hashlib.sha256()
  for name in ('dataset_info.json', 'features.json'):
    digest.update((folder / name).read_bytes())
  for path in sorted(folder.glob(f'*-{split}.{_FORMAT}*')):
    digest.update(f'{path.name} {path.stat().st_size};'.encode())
  return digest.hexdigest()


def _decode(folder, split, shape=None) -> Split:
  """Images and labels in the order of the examples' ids where there are any; resized to a shape."""
  import PIL.Image
  import tensorflow_datasets as tfds  # slow to import: only where something is decoded
  from tqdm import tqdm

  image_key, label_key, has_id = _features(folder)
  x, y, ids = [], [], []
  try:
    source = tfds.builder_from_directory(folder).as_data_source(
      split, decoders={image_key: tfds.decode.SkipDecoding()}
    )
    starts = range(0, len(source), _CHUNK)
    title = f'{folder.parent.name}: decoding {split}'
    for start in tqdm(starts, title, leave=False, disable=None):  # on a terminal only
      for example in source.__getitems__(range(start, min(start + _CHUNK, len(source)))):
        image = np.asarray(PIL.Image.open(io.BytesIO(example[image_key])))
        image = image if image.ndim == 3 else image[:, :, None]
        x.append(images.fit(image[None], shape)[0] if shape else image)
        y.append(example[label_key] if label_key else -1)
        ids.append(example['id'] if has_id else b'')
  except (OSError, ValueError, RuntimeError, IndexError, KeyError) as error:
    raise DataError(f'{folder}, split {split}, example {len(x)}: {error}') from error
  stated = next(s['shardLengths'] for s in _info(folder)['splits'] if s['name'] == split)
  if len(x) != sum(map(int, stated)):
    raise DataError(
      f'{folder}, split {split}: {len(x)} examples, {sum(map(int, stated))} are stated'
    )
  # TFDS stores examples in a shuffled order; CIFAR's last 5,000 are meant in the official one.
  order = sorted(range(len(x)), key=ids.__getitem__)
  labels = np.array([y[i] for i in order], np.int32) if label_key else None
  return Split(np.stack([x[i] for i in order]), labels)


def _keep(path, stamp, decoded):
  """Keeps the arrays where that is possible; a reader sees the whole file or none."""
  temporary = path.with_name(f'{path.name}.{os.getpid()}.tmp')
  arrays = {name: a for name, a in decoded._asdict().items() if a is not None}
  try:
    with open(temporary, 'wb') as file:
      np.savez(file, stamp=stamp, **arrays)
    os.replace(temporary, path)
  except OSError:
    with contextlib.suppress(OSError):
      temporary.unlink(missing_ok=True)
