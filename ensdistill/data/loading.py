"""Data sets by name: checked, cut into training, validation and test, with constants."""

import contextlib
import dataclasses

import numpy as np

from ensdistill import names
from ensdistill.data import checks, cuts, moments, sources
from ensdistill.data.dataset import (
  DataError,
  Dataset,
  Inputs,
  InputsOnly,
  Source,
  Split,
  fingerprint,
)
from ensdistill.data.images import sizes, stored
from ensdistill.perturb import Space

STREAM = ('auto', 'on', 'off')
STREAM_BYTES = 2**31


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
  """A data set by name, checked.

  Args:
    name: a name of SOURCES or PREPARED, any other set in `dir`, 'folder:DIR', 'csv:FILE',
      'npz:FILE', 'tfds:NAME'.
    dir: the folder of prepared sets and .npz files; None is TFDS's own.
    valid: how many training examples are kept for validation; None: the last 5,000 of CIFAR, what
      comes with the set, or else a seeded tenth.
    limit: at most so many training, validation and test examples, seeded, classes balanced; 0: all.
    seed: of all that is drawn here: validation, `limit`, the points of toy sets.
    split: which of the ways of cutting it that come with the set.
    stream: 'on' brings the training examples to the device batch by batch, and leaves in their
      files what is in files; 'off' never does; 'auto' where a part is larger than `stream_bytes`.
    stream_bytes: see stream.
    crops: training images are cut out of their files at random: they stay there, and stream.
    unreadable: what is done about images in files that cannot be read: 'stop' or 'skip' them.
    **settings: what the source has, say `noise` of spirals or `size` of a folder's images.
  """
  names.lookup('data.stream', stream, dict.fromkeys(STREAM))
  stream = 'on' if crops else stream
  stored.check(0, 1.0, unreadable)
  request = sources.Request(name, dir or None, seed, split, files=crops)
  source, where = sources.find(request, settings, {'unreadable': unreadable})
  source, parts = _checked(source, where)
  skipped = [reason for split in parts.values() for reason in getattr(split.x, 'skipped', ())]
  skipped = tuple(dict.fromkeys(skipped))
  categorical = parts['train'].y.dtype.kind == 'i'
  stated = len(source.classes) if source.classes else source.targets
  targets = parts['train'].y.shape[-1]
  if categorical:
    targets = checks.labels(parts, where, stated, source.classes, skipped)
  parts = cuts.with_validation(parts, source, where, valid, seed)
  if categorical:
    checks.still_there(parts, where, targets)
  dataset = _finish(source, where, parts, targets, limit, seed)
  dataset = dataclasses.replace(dataset, where=where, skipped=skipped)
  largest = max(getattr(dataset, part).x.nbytes for part in parts)
  if stream == 'on' or (stream == 'auto' and largest > stream_bytes):
    for part in ('valid', 'test'):  # training is long, and they are read at its end
      stored.try_all(getattr(dataset, part), part)
    return dataclasses.replace(dataset, streams=True)
  in_memory = lambda split: Split(np.asarray(split.x), split.y)
  return dataclasses.replace(dataset, **{p: in_memory(getattr(dataset, p)) for p in parts})


def _checked(source, where) -> tuple[Source, dict[str, Split]]:
  """The parts of a source, of one shape and with labels of one kind.

  Where test examples have no labels those of validation are for testing, and the source says so.
  """
  parts = {
    part: checks.checked(read(), where, part, source.columns) for part, read in source.parts.items()
  }
  for part in ('train', 'test'):
    if part not in parts:
      raise InputsOnly(f'{where} has no {part} split: it can serve as inputs, not be trained on')
  if parts['test'].y is None and 'valid' in parts:
    parts['test'] = parts.pop('valid')
    unused = f'{where}: its test split has no labels: the validation split is for testing'
    source = dataclasses.replace(source, unused=unused)
  for part, (x, y) in parts.items():
    if y is None:
      raise InputsOnly(f'{where} has no labels for its {part} split')
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
  return source, parts


def load_inputs(
  name: str,
  *,
  shape: tuple[int, ...],
  dir: str | None = None,
  limit: int = 0,
  seed: int = 0,
  part: str = 'test',
  dtype=None,
  unreadable: str = 'stop',
  stream: str = 'auto',
  stream_bytes: int = STREAM_BYTES,
  **settings,
) -> np.ndarray:
  """Inputs of any set in another set's form: for out-of-distribution and auxiliary data.

  Images become grey or colour and are resized to `shape`, and keep their dtype unless `dtype` is
  given. Test inputs unless part='train' is asked for, which auxiliary data want where the same set
  also measures detection. What is in files stays there where `stream` is 'on', or 'auto' and it is
  larger than `stream_bytes`; `unreadable` is what is done about images that cannot be read.
  """
  names.lookup('part', part, dict.fromkeys(('train', 'valid', 'test')))
  stored.check(0, 1.0, unreadable)
  request = sources.Request(name, dir or None, seed, shape=tuple(shape))
  source, where = sources.find(request, settings, {'unreadable': unreadable})
  if part not in source.parts:
    raise DataError(f'{where} has no {part} split, only {", ".join(source.parts)}')
  x, _ = checks.checked(Split(source.parts[part]().x, None), where, part, source.columns)
  rows = cuts.subset(None, len(x), limit, seed)
  if isinstance(x, stored.Stored):
    x = x.take(rows)
    stays = stream == 'on' or (stream == 'auto' and x.nbytes > stream_bytes)
    if stays and np.dtype(dtype or x.dtype) == x.dtype:
      return x
    return sizes.as_dtype(np.asarray(x), dtype or x.dtype)
  x = x[rows]
  if x.ndim == 4 and len(shape) == 3:
    x = sizes.fit(x, tuple(shape))
    return sizes.as_dtype(x, dtype or x.dtype)
  if x.shape[1:] != tuple(shape):
    raise ValueError(
      f'{name!r} has inputs of shape {x.shape[1:]}, which cannot be brought to {shape}'
    )
  return x.astype(dtype or x.dtype)


def every_input(
  name: str,
  *,
  dir: str | None = None,
  seed: int = 0,
  split: int = 0,
  crops: bool = False,
  unreadable: str = 'stop',
  **settings,
) -> Inputs:
  """The inputs of all parts of a set as they are, the test part's first; see `load`."""
  request = sources.Request(name, dir or None, seed, split, files=crops)
  source, where = sources.find(request, settings, {'unreadable': unreadable})
  parts = {}
  for part in sorted(source.parts):
    with contextlib.suppress(InputsOnly):  # of a folder that has no training part
      x = source.parts[part]().x
      parts[part] = checks.checked(Split(x, None), where, part, source.columns).x
  x = next(iter(parts.values()))
  return Inputs(source.name, parts, *moments.moments(x), moments.sampled(x), source.columns, where)


def _finish(source, where, parts, targets, limit, seed) -> Dataset:
  """The limit, and the constants of the training split."""
  if limit < 0:
    raise ValueError(f'data.limit={limit} must not be negative; 0 keeps everything')
  categorical = parts['train'].y.dtype.kind == 'i'
  parts = {k: cuts.take(v, cuts.subset(v.y, len(v.x), limit, seed)) for k, v in parts.items()}
  x, y = parts['train']
  published = source.mean and len(source.mean) == x.shape[-1]
  mean, std = (source.mean, source.std) if published else moments.moments(x)
  space = Space(0.0, 1.0, 1 / 255)
  if x.ndim == 2:
    still = checks.constant(x)  # here a network has learned nothing: no perturbation moves it
    std = tuple(np.where(still, np.maximum(std, moments.farthest(parts, mean)), std).tolist())
    space = Space(-np.inf, np.inf, np.where(still, 0, std).astype(np.float32))
  target_mean, target_std = (0.0,), (1.0,)
  if not categorical:
    checks.vary(y, f'{where}: y_train')
    target_mean, target_std = moments.moments(y)
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
    columns=source.columns,
    sampled=0 if published else moments.sampled(x),
    unused=source.unused,
  )
  return dataclasses.replace(dataset, fingerprint=fingerprint(dataset))
