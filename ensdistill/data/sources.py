"""Data sets by name: checked, cut into training, validation and test, with constants."""

import dataclasses
import inspect
import os
from typing import NamedTuple

import numpy as np

from ensdistill import names
from ensdistill.data import checks, images, npz, prepared, toys
from ensdistill.data.dataset import DataError, Dataset, Source, Split, fingerprint
from ensdistill.perturb import Space


class Request(NamedTuple):
  """What every source may need to know."""

  name: str
  dir: str | None
  seed: int
  split: int = 0
  shape: tuple[int, ...] | None = None  # wanted of images that differ in size


# (request, **settings) -> Source
SOURCES = {
  'digits': toys.digits,
  'digits_inverted': toys.digits_inverted,
  'photographs': toys.photographs,
  'spirals': toys.spirals,
  'spirals_ood': toys.spirals_ood,
  'toy1d': toys.toy1d,
  'toy1d_ood': toys.toy1d_ood,
  'diabetes': toys.diabetes,
}

# Sets that lie in the data folder, prepared by TFDS or as NAME.npz, and what is published of them.
PREPARED = {
  'mnist': {},
  'fashion_mnist': {},
  'notmnist': {},
  'svhn_cropped': {},
  'tiny_imagenet_32': {},
  'cifar10': dict(valid=5000, mean=(0.4914, 0.4822, 0.4465), std=(0.2470, 0.2435, 0.2616)),
  'cifar100': dict(valid=5000, mean=(0.5072, 0.4866, 0.4410), std=(0.2673, 0.2564, 0.2760)),
}

# What an evaluation takes as out of distribution unless told.
OOD_DEFAULTS = {
  'digits': ('digits_inverted', 'photographs'),
  'spirals': ('spirals_ood',),
  'toy1d': ('toy1d_ood',),
  'mnist': ('fashion_mnist', 'notmnist'),
  'fashion_mnist': ('mnist', 'notmnist'),
  'cifar10': ('svhn_cropped', 'tiny_imagenet_32', 'cifar100'),
  'cifar100': ('svhn_cropped', 'tiny_imagenet_32', 'cifar10'),
}


def load(
  name: str,
  *,
  dir: str | None = None,
  valid: int | None = None,
  limit: int = 0,
  seed: int = 0,
  split: int = 0,
  **settings,
) -> Dataset:
  """A data set by name, checked.

  Args:
    name: one of SOURCES, one of PREPARED or any other set in `dir`, 'npz:FILE', 'tfds:NAME'.
    dir: the folder of prepared sets and .npz files; None is TFDS's own.
    valid: how many training examples are kept for validation; None: the last 5,000 of CIFAR, what
      comes with the set, or else a seeded tenth.
    limit: at most so many training, validation and test examples, seeded, classes balanced; 0: all.
    seed: of all that is drawn here: validation, `limit`, the points of toy sets.
    split: which of the ways of cutting it that come with the set.
    **settings: what the source has, say `noise` of spirals.
  """
  source, where = find(Request(name, dir or None, seed, split), settings)
  parts = {
    part: checks.checked(read(), where, part, source.columns) for part, read in source.parts.items()
  }
  for part in ('train', 'test'):
    if part not in parts:
      raise DataError(f'{where} has no {part} split: it can serve as inputs, not be trained on')
  for part, (x, y) in parts.items():
    if y is None:
      raise DataError(f'{where} has no labels for its {part} split')
    if x.shape[1:] != parts['train'].x.shape[1:]:
      raise DataError(
        f'{where}: examples of x_{part} have shape {x.shape[1:]}, of x_train '
        f'{parts["train"].x.shape[1:]}'
      )
    if y.dtype != parts['train'].y.dtype or y.shape[1:] != parts['train'].y.shape[1:]:
      raise DataError(
        f'{where}: y_{part} ({y.dtype}, {y.shape}) and y_train ({parts["train"].y.dtype}, '
        f'{parts["train"].y.shape}) differ in kind'
      )
  categorical = parts['train'].y.dtype.kind == 'i'
  stated = len(source.classes) if source.classes else source.targets
  targets = checks.labels(parts, where, stated) if categorical else parts['train'].y.shape[1]
  parts = _with_validation(parts, source, where, valid, seed)
  if categorical:
    checks.still_there(parts, where, targets)
  return _finish(source, parts, targets, limit, seed)


def find(request: Request, settings) -> tuple[Source, str]:
  """The source of a name and how messages call it: the file or folder where there is one."""
  kind, _, rest = request.name.partition(':')
  builder, where = SOURCES.get(request.name), request.name
  known = inspect.signature(builder).parameters if builder else ()
  names.settings(f'data set {request.name!r}', settings, [k for k in known if k != 'request'])
  file = os.path.join(prepared.root(request.dir), f'{request.name}.npz')
  if builder:
    source = builder(request, **settings)
  elif kind == 'npz' and rest:
    source, where = npz.source(request, rest), npz.locate(rest, request.dir)
  elif kind == 'tfds' and rest:
    source, where = prepared.source(request, rest), str(prepared.find(rest, request.dir))
  elif os.path.isfile(file):
    source, where = npz.source(request, file), file
  elif request.name in PREPARED or prepared.exists(request.name, request.dir):
    source = prepared.source(request, request.name)
    where = str(prepared.find(request.name, request.dir))
  else:
    raise names.unknown('data set', request.name, [*SOURCES, *PREPARED, 'npz:FILE', 'tfds:NAME'])
  if not 0 <= request.split < source.splits:
    raise ValueError(
      f'data.split={request.split}: {where} has {source.splits} split(s), counted from 0'
    )
  published = PREPARED.get(rest.partition(':')[0] if kind == 'tfds' else request.name, {})
  return dataclasses.replace(source, **published), where


def load_inputs(
  name: str,
  *,
  shape: tuple[int, ...],
  dir: str | None = None,
  limit: int = 0,
  seed: int = 0,
  part: str = 'test',
  dtype=None,
  **settings,
) -> np.ndarray:
  """Inputs of any set in another set's form: for out-of-distribution and auxiliary data.

  Images become grey or colour and are resized to `shape`, and keep their dtype unless `dtype` is
  given. Test inputs unless part='train' is asked for, which auxiliary data want where the same set
  also measures detection.
  """
  names.lookup('part', part, dict.fromkeys(('train', 'valid', 'test')))
  source, where = find(Request(name, dir or None, seed, shape=tuple(shape)), settings)
  if part not in source.parts:
    raise DataError(f'{where} has no {part} split, only {", ".join(source.parts)}')
  x, _ = checks.checked(Split(source.parts[part]().x, None), where, part, source.columns)
  x = x[_subset(None, len(x), limit, seed)]
  if x.ndim == 4 and len(shape) == 3:
    x = images.fit(x, tuple(shape))
    return images.as_dtype(x, dtype or x.dtype)
  if x.shape[1:] != tuple(shape):
    raise ValueError(
      f'{name!r} has inputs of shape {x.shape[1:]}, which cannot be brought to {shape}'
    )
  return x.astype(dtype or x.dtype)


def _with_validation(parts, source, where, valid, seed):
  """Training, validation and test, the second from the first unless it comes with the set."""
  pool = parts.get('valid', parts['train'])
  size = len(pool.x)
  least, most = 1, size if 'valid' in parts else size - 1
  if valid is not None and not least <= valid <= most:
    raise ValueError(
      f'data.valid={valid}: {where} has {size} examples to take it from, 1 to {most}'
    )
  if 'valid' in parts:
    return parts | {'valid': _take(pool, _subset(pool.y, size, valid or 0, seed))}
  if most < 1:
    raise DataError(f'{where}: x_train has one example, none is left for validation')
  count = valid or (min(source.valid, size // 2) if source.valid else max(size // 10, 1))
  order = np.arange(size) if source.valid else np.random.RandomState(seed).permutation(size)
  kept, held = np.sort(order[: size - count]), np.sort(order[size - count :])
  return parts | {'train': _take(parts['train'], kept), 'valid': _take(pool, held)}


def _finish(source, parts, targets, limit, seed) -> Dataset:
  """The limit, and the constants of the training split."""
  if limit < 0:
    raise ValueError(f'data.limit={limit} must not be negative; 0 keeps everything')
  categorical = parts['train'].y.dtype.kind == 'i'
  parts = {k: _take(v, _subset(v.y, len(v.x), limit, seed)) for k, v in parts.items()}
  x, y = parts['train']
  published = source.mean and len(source.mean) == x.shape[-1]
  mean, std = (source.mean, source.std) if published else moments(x)
  space = Space(0.0, 1.0, 1 / 255) if x.ndim == 4 else Space(-np.inf, np.inf, np.float32(std))
  target_mean, target_std = ((0.0,), (1.0,)) if categorical else moments(y)
  dataset = Dataset(
    source.name,
    *(parts[part] for part in ('train', 'valid', 'test')),
    targets,
    'categorical' if categorical else 'gaussian',
    mean,
    std,
    space,
    target_mean,
    target_std,
    source.classes,
    fingerprint='',
  )
  return dataclasses.replace(dataset, fingerprint=fingerprint(dataset))


def moments(x: np.ndarray) -> tuple[tuple[float, ...], tuple[float, ...]]:
  """Mean and deviation per channel or column as a network sees them; a constant one has 1."""
  scale = 255 if x.dtype == np.uint8 else 1
  rows = x.reshape(-1, x.shape[-1])
  blocks = [rows[i : i + 2**20].astype(np.float64) for i in range(0, len(rows), 2**20)]
  mean = sum(block.sum(0) for block in blocks) / len(rows)
  std = np.sqrt(sum(((block - mean) ** 2).sum(0) for block in blocks) / len(rows))
  std = np.where(checks.constant(x), scale, std)
  return tuple((mean / scale).tolist()), tuple((std / scale).tolist())


def _subset(y, size: int, limit: int, seed: int) -> np.ndarray:
  """The rows that a limit keeps, in their order; of labels every class as often as it can be."""
  if not limit or limit >= size:
    return np.arange(size)
  order = np.random.RandomState(seed).permutation(size)
  if y is not None and y.dtype.kind == 'i':
    # Each example's rank within its class: the first of every class, then the second, ...
    grouped = np.argsort(y[order], kind='stable')
    counts = np.bincount(y)
    starts = np.repeat(np.cumsum(counts) - counts, counts)
    order = order[grouped][np.argsort(np.arange(size) - starts, kind='stable')]
  return np.sort(order[:limit])


def _take(split: Split, rows) -> Split:
  """Ascending rows of a split; a contiguous stretch is not copied."""
  if rows[-1] - rows[0] + 1 == len(rows):
    rows = slice(rows[0], rows[-1] + 1)
  return Split(split.x[rows], split.y[rows])
