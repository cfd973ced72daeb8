"""Image sets that TensorFlow Datasets has prepared, read without TensorFlow.

Decoding 60,000 PNG files takes half a minute, so that a split is decoded once and kept beside its
files, where the folder can be written to; the copy states which files it was decoded from. A split
that is large, whose images differ in size, or that is wanted otherwise than as it is stored, stays
in its files; its labels and their order alone are kept.
"""

import functools
import os
import pathlib
import re

import numpy as np

from ensdistill.data.dataset import DataError, MissingData, Source, Split
from ensdistill.data.images import stored
from ensdistill.data.sources import records

_VERSION = re.compile(r'\d+\.\d+\.\d+')
_LARGE = 2**33  # bytes of a split that is not decoded as a whole
# Not in the catalogue of TFDS, so that no command prepares them.
_NOT_IN_TFDS = ('notmnist', 'tiny_imagenet_32')


def source(
  request, name: str, *, size: int = 0, central: float = 1.0, unreadable: str = 'stop'
) -> Source:
  """NAME, NAME/CONFIG or NAME:VERSION below the TFDS folder (its newest version unless named).

  The settings are those of folder.source.
  """
  stored.check(size, central, unreadable)
  folder = find(name, request.dir)
  info = records.info(folder)
  sizes = {split['name']: sum(map(int, split['shardLengths'])) for split in info['splits']}
  parts = {'train': 'train', 'test': 'test'}
  if 'test' not in sizes:
    parts['test'] = 'validation'
  elif 'validation' in sizes:
    parts['valid'] = 'validation'
  stated = records.shape(folder)
  channels = 1 if stated and stated[-1] == 1 else 3
  form = request.shape or ((size, size, channels) if size else None)
  as_stored = not size and central == 1 and unreadable == 'stop' and not request.files

  def part_of(split) -> Split:
    if as_stored and stated and sizes[split] * np.prod(stated) <= _LARGE:
      return _labelled(records.read(folder, split))
    if not form and not stated:
      raise DataError(f'{folder}: its images differ in size: set data.size')
    shape = form or (*stated[:2], channels)
    rows, y = records.index(folder, split)
    every = records.Records(folder, split, rows)
    found = _labelled(Split(stored.Stored(every, shape, central, exact=form is None), y))
    if unreadable == 'skip':
      found = stored.readable(found, folder / f'.unreadable-{split}.json')
    return found

  return Source(
    request.name,
    {part: functools.partial(part_of, split) for part, split in parts.items() if split in sizes},
    classes=records.classes(folder),
    targets=records.targets(folder),
  )


def _labelled(split: Split) -> Split:
  """TFDS has -1 for a label that was not published, as those of ImageNet's test images."""
  return split if split.y is None or (split.y >= 0).any() else Split(split.x, None)


def root(folder: str | None) -> pathlib.Path:
  """The folder of prepared sets: the one given, or where TFDS puts them."""
  folder = folder or os.environ.get('TFDS_DATA_DIR') or '~/tensorflow_datasets'
  return pathlib.Path(folder).expanduser()


def find(name: str, folder: str | None) -> pathlib.Path:
  """The folder of one version of a set, or the error that says how to fill it.

  Of a set that comes in several forms the only one that is prepared needs no name.
  """
  name, _, version = name.partition(':')
  base = root(folder) / name
  versions = _versions(base, version)
  if not versions:
    forms = {p.name: found for p in _subfolders(base) if (found := _versions(p, version))}
    if len(forms) > 1:
      several = ', '.join(f'{name}/{form}' for form in sorted(forms))
      raise MissingData(f'{name!r} is prepared in several forms, name one: {several}')
    versions = next(iter(forms.values()), ())
  if not versions:
    raise MissingData(_remedy(name, version, root(folder)))
  return max(versions, key=lambda p: tuple(int(n) for n in p.name.split('.')))


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
    f".download_and_prepare(file_format='{records.FORMAT}')\""
  )


def _versions(folder, version: str) -> list[pathlib.Path]:
  """The versions of a set that lie in a folder, or the one that is named."""
  found = [p for p in _subfolders(folder) if _VERSION.fullmatch(p.name) and _is_set(p)]
  return [p for p in found if p.name == version] if version else found


def _subfolders(folder):
  return [p for p in folder.iterdir() if p.is_dir()] if folder.is_dir() else []


def _is_set(folder):
  return (folder / 'dataset_info.json').is_file()
