"""Data sets by name: checked, split into training, validation and test parts, with constants."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from ensdistill import families, names
from ensdistill.data import checks, cuts, moments, sources
from ensdistill.data.dataset import (
  Dataset,
  Examples,
  Inputs,
  Rows,
  Source,
  Split,
  Unlabelled,
  fingerprint,
)
from ensdistill.data.errors import DataError, InputsOnly
from ensdistill.data.images import damaged, sizes, stored
from ensdistill.perturb import Space

STREAM = ('auto', 'on', 'off')
STREAM_BYTES = 2**31
ARRAYS = 'arrays'  # the name of a data set of arrays in memory


def load(
  name: str,
  *,
  dir: str | None = None,
  valid: int | None = None,
  limit: int = 0,
  seed: int = 0,
  split: int = 0,
  stream: str = 'auto',
  stream_bytes: int = STREAM_BYTES,
  crops: bool = False,
  unreadable: str = 'stop',
  **settings,
) -> Dataset:
  """Return a data set by name, checked.

  Args:
    name: a name of sources.BUILT_IN or sources.BENCHMARKS, any other set in `dir`, 'folder:DIR',
      'csv:FILE', 'npz:FILE' or 'tfds:NAME'.
    dir: the folder of prepared sets and .npz files; None: the folder of TFDS.
    valid: number of training examples for validation; None: the last 5,000 of CIFAR, the set's own
      validation part, or else a seeded tenth.
    limit: largest number of training, validation and test examples each, seeded and with balanced
      classes; 0: all.
    seed: the seed of validation, `limit` and the points of toy sets.
    split: which of the set's own ways to split it.
    stream: 'on' sends training examples to the device batch by batch, and leaves images in their
      files; 'off' never does; 'auto' does if a part is larger than `stream_bytes`.
    stream_bytes: see stream.
    crops: training images are cut out of their files at random, so they stay there and stream.
    unreadable: 'stop' at images that cannot be read, or 'skip' them.
    **settings: the source's own settings, such as `noise` of spirals or `size` of a folder.
  """
  names.check('data.stream', stream, STREAM)
  stored.check_settings(unreadable)
  stream = 'on' if crops else stream
  request = sources.Request(name, dir or None, seed, split, in_files=crops)
  source = sources.source_of(request, settings, optional={'unreadable': unreadable})
  source, parts = _labelled_parts(source)
  skipped = stored.skipped(split.x for split in parts.values())
  has_classes = families.of_targets(parts['train'].y).has_classes
  targets = parts['train'].y.shape[-1]
  if has_classes:
    targets = checks.class_count(parts, source, skipped)
  rows = _rows(parts, source, valid, limit, seed)
  parts = cuts.with_validation(parts, source, valid, seed)
  if has_classes:
    checks.check_every_class_is_left(parts, source.where, targets)
  dataset = _with_constants(source, _limited(parts, limit, seed), targets, skipped)
  dataset = dataclasses.replace(dataset, rows=rows)
  largest = max(split.x.nbytes for split in (dataset.train, dataset.valid, dataset.test))
  if stream == 'on' or (stream == 'auto' and largest > stream_bytes):
    # Training takes long, and validation and test images are first read at its end.
    damaged.refuse(dataset.valid.x, 'valid')
    damaged.refuse(dataset.test.x, 'test')
    return dataclasses.replace(dataset, streams=True)
  return dataclasses.replace(
    dataset,
    train=_in_memory(dataset.train),
    valid=_in_memory(dataset.valid),
    test=_in_memory(dataset.test),
  )


def _in_memory(split: Split) -> Split:
  return Split(np.asarray(split.x), split.y)


def _labelled_parts(source: Source) -> tuple[Source, dict[str, Split]]:
  """Return the checked parts of a source, all of one shape and one kind of labels.

  If the test part has no labels, the validation part replaces it, and `source.unused` says so.
  """
  where = source.where
  found = {part: _read(source, part) for part in source.parts}
  if source.unlabelled:
    raise InputsOnly(source.unlabelled)
  for part in ('train', 'test'):
    if part not in found:
      raise InputsOnly(f'{where} has no {part} split: use it as inputs only, or add the split')
  if found['test'].y is None and 'valid' in found:
    found['test'] = found.pop('valid')
    unused = f'{where}: the test split has no labels; the validation split is used for testing'
    source = dataclasses.replace(source, unused=unused)
  parts: dict[str, Split] = {}
  for part, (x, y) in found.items():
    if y is None:
      raise InputsOnly(f'{where} has no labels for its {part} split: use it as inputs only')
    parts[part] = Split(x, y)
  x, y = parts['train']
  for part, split in parts.items():
    if split.x.shape[1:] != x.shape[1:]:
      raise DataError(
        f'{where}: examples of x_{part} have shape {split.x.shape[1:]}, those of x_train '
        f'{x.shape[1:]}: store them in one shape'
      )
    if split.y.dtype != y.dtype or split.y.shape[1:] != y.shape[1:]:
      raise DataError(
        f'{where}: y_{part} ({split.y.dtype}, {split.y.shape}) and y_train ({y.dtype}, {y.shape}) '
        'differ in kind: store both as labels, or both as regression targets'
      )
  return source, parts


def _read(source: Source, part: str, *, labels: bool = True) -> Examples:
  """Return one part of a source, checked; without its labels if they are not wanted."""
  examples = source.parts[part]()
  if not labels:
    examples = Examples(examples.x, None)
  return checks.checked(examples, source.where, part, source.columns)


def load_inputs(
  name: str,
  *,
  shape: tuple[int, ...],
  columns: Sequence[str] | None = None,
  dir: str | None = None,
  limit: int = 0,
  seed: int = 0,
  part: str = 'test',
  dtype=None,
  unreadable: str = 'stop',
  stream: str = 'auto',
  stream_bytes: int = STREAM_BYTES,
  **settings,
) -> Inputs:
  """Return inputs of a set in another set's shape, for out-of-distribution or auxiliary data.

  Args:
    name: as in `load`; the arguments that are not listed here are those of `load`, too.
    shape: the shape of one input; images become grey or colour and are resized.
    columns: names of a table's columns: those of a set that knows its own are brought in this
      order, and others are left out.
    part: 'train', 'valid' or 'test'. Auxiliary inputs come from 'train', so that the test part can
      still measure detection.
    dtype: uint8 or float32; None: the set's own.
    stream: 'on' leaves images in their files, 'auto' does if they are larger than `stream_bytes`.
  """
  names.check('part', part, ('train', 'valid', 'test'))
  stored.check_settings(unreadable)
  shape = tuple(shape)
  request = sources.Request(name, dir or None, seed, shape=shape, columns=columns)
  source = sources.source_of(request, settings, optional={'unreadable': unreadable})
  if part not in source.parts:
    raise InputsOnly(
      f'{source.where} has no {part} split: choose from {", ".join(sorted(source.parts))}'
    )
  places = None
  if columns and source.columns is not None and tuple(source.columns) != tuple(columns):
    places = _places(source.where, source.columns, columns)
  x = _read(source, part, labels=False).x
  x = x if places is None else x[:, places]
  if 0 < limit < len(x):
    x = stored.take(x, cuts.subset(None, len(x), limit, seed))
  dtype = np.dtype(dtype or x.dtype)
  if stored.in_files(x):
    stays = stream == 'on' or (stream == 'auto' and x.nbytes > stream_bytes)
    return x if stays and dtype == x.dtype else sizes.as_dtype(np.asarray(x), dtype)
  if x.ndim == 4 and len(shape) == 3:
    return sizes.as_dtype(sizes.fit(x, shape), dtype)
  if x.shape[1:] != shape:
    raise ValueError(f'{name!r} has inputs of shape {x.shape[1:]}, which do not fit {shape}')
  return x.astype(dtype)


def _places(where: str, found: Sequence[str], wanted: Sequence[str]) -> list[int]:
  """Return the places of wanted columns in a table; all of them must be there."""
  missing = [name for name in wanted if name not in found]
  if missing:
    raise DataError(f'{where} has no column {missing[0]!r}: it needs {", ".join(wanted)}')
  return [found.index(name) for name in wanted]


def from_arrays(
  x,
  y,
  *,
  valid: int = 0,
  seed: int = 0,
  classes: int | None = None,
  names: Sequence[str] | None = None,
  columns: Sequence[str] | None = None,
) -> Dataset:
  """Return a data set of arrays in memory, checked; it has no test part of its own.

  Args:
    x: images [N, H, W, C], uint8 or floats in [0, 1], or a table [N, D].
    y: labels [N] from 0 as integers, regression targets [N] or [N, D] as floats, or None.
    valid: number of examples for validation.
    seed: the seed of the choice of validation examples.
    classes: number of classes, where there are no labels.
    names: names of the classes.
    columns: names of a table's columns.
  """
  where = 'the arrays'
  columns = tuple(columns) if columns is not None and len(columns) else None
  x, labels = checks.checked(Examples(np.asarray(x), y), where, 'train', columns)
  named = tuple(names) if names else None
  source = Source(ARRAYS, {}, where, columns, named, class_count=classes)
  if labels is None:
    split, targets = Split(x, np.full(len(x), -1, np.int32)), classes or 0
  else:
    split, targets = Split(x, labels), labels.shape[-1]
    if families.of_targets(labels).has_classes:
      targets = checks.class_count({'train': split}, source, ())
  own = {'train': split, 'test': split}
  rows = _rows(own, source, valid, 0, seed)
  own = cuts.with_validation(own, source, valid, seed)
  return dataclasses.replace(_with_constants(source, own, targets, ()), rows=rows)


def parts(
  name: str, *, dir: str | None = None, seed: int = 0, split: int = 0, **settings
) -> dict[str, Examples]:
  """Return the parts of a set as its source has them: {'train': (x, y), 'test': ...}.

  All examples are there, in the order of the source, before validation is cut out of the training
  part. Outputs of an ensemble that is trained elsewhere are stored in this order. For the arguments
  see `load`; y is None where a part has no labels. Sets in sources.DRAWN depend on the seed.
  """
  source = sources.source_of(sources.Request(name, dir or None, seed, split), settings)
  return {part: _read(source, part) for part in source.parts}


def load_unlabelled(
  name: str,
  *,
  dir: str | None = None,
  seed: int = 0,
  split: int = 0,
  crops: bool = False,
  unreadable: str = 'stop',
  **settings,
) -> Unlabelled:
  """Return the inputs of all parts of a set; for the arguments see `load`.

  The training part comes first. Where it also serves as the test part, it is there once.
  """
  request = sources.Request(name, dir or None, seed, split, in_files=crops)
  source = sources.source_of(request, settings, optional={'unreadable': unreadable})
  parts: dict[str, Inputs] = {}
  readers: list = []
  for part in ('train', 'valid', 'test'):
    if part in source.parts and source.parts[part] not in readers:
      readers.append(source.parts[part])
      parts[part] = _read(source, part, labels=False).x
  x = next(iter(parts.values()))
  mean, std = moments.mean_and_deviation(x)
  sampled = moments.sample_size(x)
  return Unlabelled(source.name, parts, mean, std, sampled, source.columns, source.where)


def _limited(parts: dict[str, Split], limit: int, seed: int) -> dict[str, Split]:
  """Return at most `limit` examples of each part."""
  if limit < 0:
    raise ValueError(f'data.limit={limit} must not be negative; 0 keeps everything')
  return {
    part: cuts.take(split, cuts.subset(split.y, len(split.x), limit, seed))
    for part, split in parts.items()
  }


def _rows(parts: dict[str, Split], source: Source, valid, limit: int, seed: int) -> dict[str, Rows]:
  """Return the rows of the source in each part: its row numbers, cut as the examples are."""
  numbers = {part: Split(np.arange(len(split.y)), split.y) for part, split in parts.items()}
  cut = _limited(cuts.with_validation(numbers, source, valid, seed), limit, seed)
  # A validation part without a test part beside it has become the test part.
  test = 'valid' if 'valid' in source.parts and 'valid' not in parts else 'test'
  of = {'train': 'train', 'valid': 'valid' if 'valid' in parts else 'train', 'test': test}
  lengths = {part: len(split.y) for part, split in parts.items()}
  lengths[test] = lengths['test']
  return {part: Rows(of[part], split.x, lengths[of[part]]) for part, split in cut.items()}


def _with_constants(source: Source, parts: dict[str, Split], targets: int, skipped) -> Dataset:
  """Return the data set with the constants of its training part."""
  x, y = parts['train']
  family = families.of_targets(y)
  if source.mean and source.std and len(source.mean) == x.shape[-1]:  # published
    mean, std, sampled = source.mean, source.std, 0
  else:
    (mean, std), sampled = moments.mean_and_deviation(x), moments.sample_size(x)
  space = Space(0.0, 1.0, 1 / 255)
  if x.ndim == 2:
    # Networks learn nothing about a constant column, so perturbations must not move it.
    still = checks.constant_columns(x)
    std = tuple(np.where(still, np.maximum(std, moments.farthest(parts, mean)), std).tolist())
    space = Space(-np.inf, np.inf, np.where(still, 0, std).astype(np.float32))
  target_mean, target_std = (0.0,), (1.0,)
  if not family.has_classes:
    checks.check_targets_vary(y, f'{source.where}: y_train')
    target_mean, target_std = moments.mean_and_deviation(y)
  dataset = Dataset(
    name=source.name,
    train=parts['train'],
    valid=parts['valid'],
    test=parts['test'],
    targets=targets,
    family=family.name,
    mean=mean,
    std=std,
    space=space,
    target_mean=target_mean,
    target_std=target_std,
    classes=source.classes,
    fingerprint='',
    columns=source.columns,
    where=source.where,
    skipped=skipped,
    sampled=sampled,
    unused=source.unused,
  )
  return dataclasses.replace(dataset, fingerprint=fingerprint(dataset))
