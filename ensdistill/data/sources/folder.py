"""Folders of images: a folder a class, with or without parts above them, as people have them."""

import functools
import os
import pathlib

import numpy as np

from ensdistill.data import cuts
from ensdistill.data.dataset import DataError, InputsOnly, MissingData, Source, Split
from ensdistill.data.images import decode, stored

_SUFFIXES = ('.bmp', '.gif', '.jpeg', '.jpg', '.pgm', '.png', '.ppm', '.tif', '.tiff', '.webp')
_PARTS = {'train': ('train',), 'valid': ('val', 'valid', 'validation'), 'test': ('test',)}
_TEST_SHARE = 0.2  # where no part is given


def source(
  request, path: str, *, size: int = 0, central: float = 1.0, unreadable: str = 'stop'
) -> Source:
  """A folder's images, colour, with the names of their folders as classes.

  DIR/CLASS/... : of every class a seeded fifth is for testing, drawn anew for each `split`.
  DIR/train/CLASS/..., and val and test beside it: a part that is not there, or whose images have no
  labels, is taken from what is: test from val, or else as above; val has to have labels. Tiny
  ImageNet's own layout, train/CLASS/images/... with val/images and val/val_annotations.txt, is one
  of these.
  DIR/... without folders within: inputs alone.

  Args:
    request: which parts and form are wanted.
    path: the folder, as it is or in the data folder.
    size: side in pixels that images are brought to; 0: all have to be of one size.
    central: the share of the shorter side that the central window has.
    unreadable: 'stop' at the first image that cannot be read, or 'skip' all of them, which takes
      one pass over the set.
  """
  stored.check(size, central, unreadable)
  root = locate(path, request.dir)
  folders = {
    part: root / name for part, known in _PARTS.items() for name in known if (root / name).is_dir()
  }
  if 'train' not in folders:
    folders = {'train': root}
  classes = tuple(sorted(_subfolders(folders['train'])))
  form = request.shape or ((size, size, 3) if size else None)

  @functools.cache
  def read(part) -> Split:
    files, y = _listed(folders[part], classes, whole=part == 'train')
    images = stored.Stored(files, form or _first_form(files), central, exact=form is None)
    found = Split(images, y)
    if unreadable == 'skip':
      found = stored.readable(found, folders[part] / f'.unreadable-{part}.json')
    return found

  def cut(part) -> Split:
    kept, held = cuts.held_out(read('train').y, _TEST_SHARE, request.split)
    if not len(held):
      raise DataError(
        f'{root}: no class has {round(1 / _TEST_SHARE)} images, none is left for testing: put '
        'images into train and test within it'
      )
    return cuts.take(read('train'), held if part == 'test' else kept)

  def unlabelled() -> Split:
    read('train')  # where there is no image that is what is said
    raise InputsOnly(
      f'{folders["train"]} has no class folders: it can serve as inputs; to train on its images '
      'put those of each class into a folder of their own'
    )

  if not classes:
    return Source(request.name, {'train': unlabelled, 'test': lambda: read('train')})
  parts = {p: functools.partial(read, p) for p in folders if _labelled(folders[p], classes)}
  unused = {p: folders[p] for p in folders if p not in parts and any(_images(folders[p]))}
  if 'valid' in unused:
    raise DataError(
      f'{unused["valid"]} holds images, but no folder of it is a class of {folders["train"]} (such '
      f'as {classes[0]!r}): put those of each class into a folder of its name'
    )
  instead, splits = '', 1
  if 'test' not in parts and 'valid' in parts:
    parts['test'], instead = parts.pop('valid'), 'the validation images'
  elif 'test' not in parts:
    parts = {part: functools.partial(cut, part) for part in ('train', 'test')}
    instead, splits = 'a fifth of the training images', 20
  said = f'{unused["test"]} has no labels: {instead} are for testing' if unused else ''
  return Source(request.name, parts, classes=classes, splits=splits, unused=said)


def locate(path: str, folder: str | None) -> pathlib.Path:
  """The folder as it was named, or in the data folder."""
  for candidate in (path, os.path.join(folder or '', path)):
    if os.path.isdir(os.path.expanduser(candidate)):
      return pathlib.Path(candidate).expanduser()
  raise MissingData(f'{path}: there is no such folder' + (f', nor in {folder}' if folder else ''))


def _labelled(folder: pathlib.Path, classes) -> bool:
  """Test images often come without labels: bare, or in a folder that is no class."""
  return _annotations(folder) is not None or not _subfolders(folder).isdisjoint(classes)


def _subfolders(folder: pathlib.Path) -> set[str]:
  with os.scandir(folder) as entries:
    return {e.name for e in entries if _is_folder(e) and not e.name.startswith('.')}


def _annotations(folder: pathlib.Path) -> pathlib.Path | None:
  """Tiny ImageNet's val_annotations.txt: the file's name and its class, separated by tabs."""
  return next(iter(sorted(folder.glob('*_annotations.txt'))), None)


def _listed(folder, classes, *, whole: bool) -> tuple[stored.Files, np.ndarray | None]:
  """The files of a part and their labels, class by class; without classes all images, unlabelled.

  Only the `whole` training part has to have an image of every class.
  """
  annotations = _annotations(folder)
  if annotations:
    found = _annotated(folder, annotations, classes)
  elif classes:
    unknown = sorted(_subfolders(folder) - set(classes))
    if unknown:
      raise DataError(f'{folder}: there is no class {unknown[0]!r} in the training folder')
    found = [
      (path, size, label)
      for label, name in enumerate(classes)
      for path, size in _images(folder / name, f'{name}/')
    ]
    empty = set(range(len(classes))) - {label for *_, label in found}
    if whole and empty:
      raise DataError(f'{folder / classes[min(empty)]} holds no image ({", ".join(_SUFFIXES)})')
  else:
    found = [(path, size, -1) for path, size in _images(folder)]
  if not found:
    raise DataError(f'{folder} holds no image ({", ".join(_SUFFIXES)})')
  paths, sizes, labels = zip(*found)
  files = stored.Files(str(folder), np.array([os.fsencode(p) for p in paths]), np.array(sizes))
  return files, np.array(labels) if classes else None


def _images(folder: pathlib.Path, prefix: str = '', above: tuple[pathlib.Path, ...] = ()):
  """(path below the folder, bytes) of all its images, also in folders within it, in order.

  `above` are the folders on the way here, as they are without links.
  """
  if not folder.is_dir():
    return
  real = folder.resolve()
  if any(path.is_relative_to(real) for path in above):
    raise DataError(f'{folder} leads back to a folder that it lies in: remove this link')
  with os.scandir(folder) as entries:
    for entry in sorted(entries, key=lambda e: e.name):
      if entry.name.startswith('.'):
        continue
      if _is_folder(entry):
        yield from _images(folder / entry.name, f'{prefix}{entry.name}/', (*above, real))
      elif entry.name.lower().endswith(_SUFFIXES):
        yield f'{prefix}{entry.name}', _size(entry)


def _is_folder(entry: os.DirEntry) -> bool:
  try:
    return entry.is_dir()
  except OSError:  # a link to itself
    return False


def _size(entry: os.DirEntry) -> int:
  """In bytes; of a link that leads nowhere 0, which reading it will say."""
  try:
    return entry.stat().st_size
  except OSError:
    return 0


def _annotated(folder, annotations: pathlib.Path, classes) -> list[tuple[str, int, int]]:
  """(path, bytes, label) of the images that a file of annotations names, in its order."""
  labels = {name: label for label, name in enumerate(classes)}
  sizes = dict(_images(folder))
  found = []
  for number, line in enumerate(annotations.read_text().splitlines(), 1):
    name, *rest = line.split('\t')
    path = next((p for p in (f'images/{name}', name) if p in sizes), None)
    if path is None:
      raise DataError(f'{annotations}, line {number}: there is no image {name!r} in {folder}')
    if not rest or rest[0] not in labels:
      raise DataError(
        f'{annotations}, line {number}: there is no class {rest[:1]} in the training folder'
      )
    found.append((path, sizes[path], labels[rest[0]]))
  return found


def _first_form(files: stored.Files) -> tuple[int, int, int]:
  """The size of the first image that can be read, in colour."""
  import PIL.Image

  for row in range(len(files)):
    try:
      with PIL.Image.open(files.where(row)) as image:
        width, height = decode.upright(image)[0]
        return height, width, 3
    except (OSError, ValueError, SyntaxError):
      continue
  raise DataError(f'{files.where(0)} and all others: no image can be read')
