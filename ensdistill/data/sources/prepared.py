"""Image sets that TensorFlow Datasets has prepared, read without TensorFlow.

Decoding 60,000 PNG files takes half a minute, so a split is decoded once and kept in its folder, if
that can be written to; the copy names the files that it was decoded from. A split stays in its
files if it is large, if its images differ in size, or if the images are wanted in another form than
the stored one; then only its labels and their order are kept.
"""

import functools
import os
import pathlib
import re

import numpy as np

from ensdistill.data.dataset import Examples, Source
from ensdistill.data.errors import DataError, MissingData
from ensdistill.data.images import damaged, stored
from ensdistill.data.sources import records

_VERSION = re.compile(r'\d+\.\d+\.\d+')
_LARGE = 2**33  # a larger split, in bytes, is not decoded as a whole
# Sets that TFDS does not offer, so no command prepares them.
_NOT_IN_TFDS = ('notmnist', 'tiny_imagenet_32')


def prepared_set(
  request, name: str, *, size: int = 0, central: float = 1.0, unreadable: str = 'stop'
) -> Source:
  """Return the set NAME, NAME/CONFIG or NAME:VERSION (default: the newest) of the TFDS folder.

  The settings are those of folder.image_folder.
  """
  stored.check_settings(unreadable, size, central)
  folder = version_folder(name, request.dir)
  info = records.dataset_info(folder)
  sizes = {split['name']: sum(map(int, split['shardLengths'])) for split in info['splits']}
  parts = {'train': 'train', 'test': 'test'}
  if 'test' not in sizes:
    parts['test'] = 'validation'
  elif 'validation' in sizes:
    parts['valid'] = 'validation'
  stated = records.image_shape(folder)
  channels = 1 if stated and stated[-1] == 1 else 3
  shape = request.shape or ((size, size, channels) if size else None)
  as_stored = not size and central == 1 and unreadable == 'stop' and not request.in_files

  def read(split: str) -> Examples:
    if as_stored and stated and sizes[split] * np.prod(stated) <= _LARGE:
      x, y = records.decoded_split(folder, split)
      return Examples(x, _published(y))
    form = shape or (stated and (*stated[:2], channels))
    if not form:
      raise DataError(f'{folder} holds images of different sizes: set data.size')
    rows, y = records.order_and_labels(folder, split)
    y = _published(y)
    encoded = records.Records(folder, split, rows)
    images = stored.Stored(encoded, form, central, exact=shape is None)
    if unreadable == 'skip':
      images, rows = damaged.skip(images, folder / f'.unreadable-{split}.json')
      y = None if y is None else y[rows]
    return Examples(images, y)

  return Source(
    request.name,
    {part: functools.partial(read, split) for part, split in parts.items() if split in sizes},
    str(folder),
    classes=records.class_names(folder),
    class_count=records.class_count(folder),
  )


def _published(y: np.ndarray | None) -> np.ndarray | None:
  """Return None for labels that were not published (-1 in TFDS), as of ImageNet's test images."""
  return y if y is not None and (y >= 0).any() else None


def data_folder(folder: str | None) -> pathlib.Path:
  """Return the folder of prepared sets: the given one, or that of TFDS."""
  folder = folder or os.environ.get('TFDS_DATA_DIR') or '~/tensorflow_datasets'
  return pathlib.Path(folder).expanduser()


def version_folder(name: str, folder: str | None) -> pathlib.Path:
  """Return the folder of one version of a set; the error for a missing one says how to prepare it.

  A set with several configs needs no name of a config if only one is prepared.
  """
  name, _, version = name.partition(':')
  base = data_folder(folder) / name
  versions = _versions(base, version)
  if not versions:
    configs = {p.name: found for p in _subfolders(base) if (found := _versions(p, version))}
    if len(configs) > 1:
      several = ', '.join(f'{name}/{config}' for config in sorted(configs))
      raise MissingData(f'{name!r} is prepared in several configs, choose one: {several}')
    versions = next(iter(configs.values()), [])
  if not versions:
    raise MissingData(_how_to_prepare(name, version, data_folder(folder)))
  return max(versions, key=lambda p: tuple(int(n) for n in p.name.split('.')))


def is_prepared(name: str, folder: str | None) -> bool:
  """Return whether any version of a set is prepared."""
  return any(_is_set(p) for p in _subfolders(data_folder(folder) / name))


def _how_to_prepare(name, version, folder) -> str:
  missing = f'data set {name!r} is not prepared: {folder / name} holds no '
  missing += f'version {version}' if version else 'version of it'
  if name in _NOT_IN_TFDS:
    return f'{missing}, and TFDS does not offer it. Put {name}.npz (x_test, y_test) into {folder}'
  full = f'{name}:{version}' if version else name
  return (
    f"{missing}. Prepare it with: pip install 'ensdistill[tf]' && python -c \"import "
    f"tensorflow_datasets as tfds; tfds.builder('{full}', data_dir='{folder}')"
    f".download_and_prepare(file_format='{records.FORMAT}')\""
  )


def _versions(folder, version: str) -> list[pathlib.Path]:
  """Return the versions of a set in a folder, or only the named one."""
  found = [p for p in _subfolders(folder) if _VERSION.fullmatch(p.name) and _is_set(p)]
  return [p for p in found if p.name == version] if version else found


def _subfolders(folder):
  return [p for p in folder.iterdir() if p.is_dir()] if folder.is_dir() else []


def _is_set(folder):
  return (folder / 'dataset_info.json').is_file()
