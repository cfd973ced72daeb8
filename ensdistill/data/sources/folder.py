"""Folders of images: one folder per class, below folders for the parts or not."""

import functools
import os
import pathlib

import numpy as np

from ensdistill import paths, stopping
from ensdistill.data import cuts
from ensdistill.data import files as data_files
from ensdistill.data.dataset import Examples, Source
from ensdistill.data.errors import DataError, MissingData
from ensdistill.data.images import damaged, decode, stored

_NO_IMAGE = f'holds no image ({", ".join(decode.SUFFIXES)})'
_PARTS = {'train': ('train',), 'valid': ('val', 'valid', 'validation'), 'test': ('test',)}
_LIKE_PARTS = ('train', 'training', 'val', 'valid', 'validation', 'test', 'testing')
State = tuple[int, int]  # of a file: its bytes, and when it was written, in ns
_TEST_SHARE = 0.2  # if the folder has no parts
_SPLITS = 20
_OFTEN = 1000  # files; the disk of a network may take an hour for all of a set


def image_folder(
  request, path: str, *, size: int = 0, central: float = 1.0, unreadable: str = 'stop'
) -> Source:
  """Return a folder's colour images; the names of the class folders are the classes.

  DIR/CLASS/...: each `split` takes another seeded fifth of every class for testing.
  DIR/train/CLASS/..., and val and test beside train: a test part that does not exist or has no
  labels is replaced by val, or else by a fifth as above. A val folder with images needs labels.
  Tiny ImageNet's own layout (train/CLASS/images/..., val/images and val/val_annotations.txt) works.
  DIR/... or DIR/train/... and DIR/test/... without class folders: inputs only.

  Args:
    request: which parts and form are wanted.
    path: the folder, as given or in the data folder.
    size: side in pixels that images are resized to; 0: all images must have the same size.
    central: the central window's share of the shorter side.
    unreadable: 'stop' at the first image that cannot be read, or 'skip' all such images, which
      takes one pass over the set.
  """
  stored.check_settings(unreadable, size, central)
  root = find_folder(path, request.dir)
  folders = {
    part: root / name for part, known in _PARTS.items() for name in known if (root / name).is_dir()
  }
  if 'train' in folders and not _is_part(folders['train'], root):  # a class of this name
    folders = {}
  if 'train' not in folders:
    folders = {'train': root}
  _check_no_other_parts(root, folders)
  classes = tuple(sorted(_subfolders(folders['train'])))
  for name in classes:
    paths.check('class folder', name)
  shape = request.shape or ((size, size, 3) if size else None)

  @functools.cache
  def read(part: str) -> Examples:
    return _read(folders[part], part, classes, shape, central, unreadable)

  def read_fifth(part: str) -> Examples:
    return _fifth(read('train'), part, root, request.split)

  if not classes:
    train = functools.partial(read, 'train')
    test = functools.partial(read, 'test') if 'test' in folders else train
    inputs = {'test': test} if folders['train'] == root else {'train': train, 'test': test}
    unlabelled = (
      f'{folders["train"]} has no class folders: use it as inputs only, or put the images of each '
      'class into a folder of their own'
    )
    return Source(request.name, inputs, str(root), unlabelled=unlabelled)
  labelled, unlabelled_test = _labelled(folders, classes)
  parts = {part: functools.partial(read, part) for part in labelled}
  instead, splits = '', 1
  if 'test' not in parts and 'valid' in parts:
    parts['test'], instead = parts.pop('valid'), 'the validation images are'
  elif 'test' not in parts:
    parts = {part: functools.partial(read_fifth, part) for part in ('train', 'test')}
    instead, splits = 'a fifth of the training images is', _SPLITS
  unused = f'{unlabelled_test} has no labels; {instead} used for testing' if unlabelled_test else ''
  return Source(request.name, parts, str(root), classes=classes, splits=splits, unused=unused)


def _is_part(folder: pathlib.Path, root: pathlib.Path) -> bool:
  """Return whether a folder `train` is the training part, and no class of this name.

  It is if it holds class folders, if another part lies beside it, or if nothing does.
  """
  known = {name for names in _PARTS.values() for name in names}
  beside = _subfolders(root) - {'train'}
  return (
    bool(_subfolders(folder))
    or _annotations(folder) is not None
    or not beside
    or not beside.isdisjoint(known)
  )


def _check_no_other_parts(root: pathlib.Path, folders: dict[str, pathlib.Path]) -> None:
  """Refuse folders named like parts that are not read: they would be ignored, or become classes."""
  odd = sorted(
    name
    for name in _subfolders(root)
    if name.lower() in _LIKE_PARTS
    and not any(os.path.samefile(root / name, part) for part in folders.values())
  )
  listing = ' and '.join(map(repr, odd))
  if odd and folders['train'] != root:
    raise DataError(
      f'{root} holds {listing}, which would be ignored beside '
      f'{", ".join(sorted(f.name for f in folders.values()))}: name the parts train, val and test, '
      'or move other folders elsewhere'
    )
  if len(odd) > 1 and any(_subfolders(root / name) for name in odd):
    raise DataError(
      f'{root} holds the folders {listing}, which would be classes: name the parts train, val and '
      'test'
    )
  if len(odd) > 1:
    raise DataError(
      f'{root} holds the folders {listing} without class folders: name them train and test if they '
      'are parts, or give them other names if they are classes'
    )


def _labelled(folders, classes) -> tuple[list[str], pathlib.Path | None]:
  """Return the parts with labels, and the folder of a test part with images but no labels."""
  labelled = [part for part, folder in folders.items() if _has_labels(folder, classes)]
  unused = {p: f for p, f in folders.items() if p not in labelled and any(_images(f))}
  if 'valid' in unused:
    raise DataError(
      f'{unused["valid"]} holds images, but has no folder named after a class of '
      f'{folders["train"]}, such as {classes[0]!r}: put the images of each class into such a folder'
    )
  return labelled, unused.get('test')


def _read(folder, part: str, classes, shape, central: float, unreadable: str) -> Examples:
  """Return the images of a part and their labels."""
  files, y = _listed(folder, classes, whole=part == 'train')
  images = stored.Stored(files, shape or _first_shape(files), central, exact=shape is None)
  if unreadable == 'skip':
    images, rows = damaged.skip(images, folder / f'.unreadable-{part}.json')
    y = None if y is None else y[rows]
  return Examples(images, y)


def _fifth(whole: Examples, part: str, root: pathlib.Path, split: int) -> Examples:
  """Return a fifth of every class for testing, or the rest for training."""
  assert whole.y is not None  # there are classes
  kept, held = cuts.held_out(whole.y, _TEST_SHARE, split)
  if not len(held):
    raise DataError(
      f'{root}: no class has {round(1 / _TEST_SHARE)} images, so none can be held out for testing: '
      f'add images, or put them into {root}/train and {root}/test'
    )
  return cuts.take(whole, held if part == 'test' else kept)


def find_folder(path: str, data_folder: str | None) -> pathlib.Path:
  """Return a folder, as given or in the data folder."""
  for candidate in (path, os.path.join(data_folder or '', path)):
    if os.path.isdir(os.path.expanduser(candidate)):
      return pathlib.Path(candidate).expanduser()
  inside = f', nor in the folder {data_folder}' if data_folder else ''
  raise MissingData(f'folder {path} does not exist{inside}: check data.name and data.dir')


def _has_labels(folder: pathlib.Path, classes) -> bool:
  """Return whether images have labels; test images often lie in no class folder."""
  return _annotations(folder) is not None or not _subfolders(folder).isdisjoint(classes)


def _subfolders(folder: pathlib.Path) -> set[str]:
  with os.scandir(folder) as entries:
    return {e.name for e in entries if _is_folder(e) and not e.name.startswith('.')}


def _annotations(folder: pathlib.Path) -> pathlib.Path | None:
  """Return Tiny ImageNet's val_annotations.txt: names of files and their classes, tab-separated."""
  return next(iter(sorted(folder.glob('*_annotations.txt'))), None)


def _listed(folder, classes, *, whole: bool) -> tuple[stored.Files, np.ndarray | None]:
  """Return the files of a part, class by class, and their labels; all images without classes.

  Every class must have an image in the `whole` training part.
  """
  annotations = _annotations(folder)
  if annotations:
    labelled = _annotated(folder, annotations, classes)
  elif classes:
    unknown = sorted(_subfolders(folder) - set(classes))
    if unknown:
      raise DataError(
        f'{folder} holds class {unknown[0]!r}, which the training folder lacks: rename or remove it'
      )
    labelled = [
      (path, size, label)
      for label, name in enumerate(classes)
      for path, size in _images(folder / name, f'{name}/')
    ]
    empty = set(range(len(classes))) - {label for *_, label in labelled}
    if whole and empty:
      raise DataError(f'{folder / classes[min(empty)]} {_NO_IMAGE}')
  else:
    labelled = [(path, size, -1) for path, size in _images(folder)]
  if not labelled:
    raise DataError(f'{folder} {_NO_IMAGE}')
  paths, sizes, labels = zip(*labelled)
  names = np.array([os.fsencode(path) for path in paths])
  bytes_N, times_N = np.array(sizes, np.int64).T
  files = stored.Files(str(folder), names, bytes_N, times_N)
  return files, np.array(labels) if classes else None


def _images(folder: pathlib.Path, prefix: str = '', above: tuple[pathlib.Path, ...] = ()):
  """Yield (path below the folder, state) of all images, also in folders within it, in order.

  `above` are the folders that contain this one, with links resolved.
  """
  if not folder.is_dir():
    return
  real = folder.resolve()
  if any(path.is_relative_to(real) for path in above):
    raise DataError(f'{folder} is a link to a folder that contains it: remove the link')
  with os.scandir(folder) as entries:
    for number, entry in enumerate(sorted(entries, key=lambda e: e.name)):
      if not number % _OFTEN:
        stopping.check()
      if entry.name.startswith('.'):
        continue
      if _is_folder(entry):
        yield from _images(folder / entry.name, f'{prefix}{entry.name}/', (*above, real))
      elif entry.name.lower().endswith(decode.SUFFIXES):
        yield f'{prefix}{entry.name}', _state(entry)


def _is_folder(entry: os.DirEntry) -> bool:
  try:
    return entry.is_dir()
  except OSError:  # a link to itself
    return False


def _state(entry: os.DirEntry) -> State:
  """Return bytes and time stamp; 0 for a broken link, whose error comes when it is read."""
  try:
    status = entry.stat()
    return status.st_size, status.st_mtime_ns
  except OSError:
    return 0, 0


def _annotated(folder, annotations: pathlib.Path, classes) -> list[tuple[str, State, int]]:
  """Return (path, state, label) of the images in a file of annotations, in its order."""
  labels = {name: label for label, name in enumerate(classes)}
  sizes = dict(_images(folder))
  found = []
  try:
    text = data_files.read(annotations).decode()
  except (OSError, ValueError) as error:
    raise DataError(f'{annotations} cannot be read: {error}') from error
  for number, line in enumerate(text.splitlines(), 1):
    name, *rest = line.split('\t')
    path = next((p for p in (f'images/{name}', name) if p in sizes), None)
    if path is None:
      raise DataError(f'{annotations}, line {number}: image {name!r} is not in {folder}')
    if not rest or rest[0] not in labels:
      given = f'class {rest[0]!r} is not in the training folder' if rest else 'the class is missing'
      raise DataError(f'{annotations}, line {number}: {given}')
    found.append((path, sizes[path], labels[rest[0]]))
  return found


def _first_shape(files: stored.Files) -> tuple[int, int, int]:
  """Return the shape of the first image that can be read, in colour."""
  for row in range(len(files)):
    try:
      with decode.opened(files.read(row)) as image:
        width, height = decode.upright(image)[0]
    except MemoryError:
      raise
    except Exception:  # decoders raise errors of many kinds
      continue
    stored.check_form(height, width)
    return height, width, 3
  raise DataError(f'no image in {files.folder} can be read, the first is {files.where(0)}')
