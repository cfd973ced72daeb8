"""Data sets by name: how each is read, and what has been published about it."""

import dataclasses
import inspect
import os
import pathlib
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple

from ensdistill import names, paths
from ensdistill.data.dataset import Source
from ensdistill.data.sources import folder, npz, prepared, table, toys


class Request(NamedTuple):
  """What a source may need to know about the wanted data."""

  name: str
  dir: str | None
  seed: int
  split: int = 0
  shape: tuple[int, ...] | None = None  # the shape that images of different sizes get
  in_files: bool = False  # images must stay in their files, because random crops are cut from them
  columns: Sequence[str] | None = None  # those that are wanted of a table of inputs; None: all


# Sets that need no file, by name: (request, **settings) -> Source.
BUILT_IN: dict[str, Callable[..., Source]] = {
  'digits': toys.digits,
  'digits_inverted': toys.digits_inverted,
  'photographs': toys.photographs,
  'spirals': toys.spirals,
  'spirals_ood': toys.spirals_ood,
  'toy1d': toys.toy1d,
  'toy1d_ood': toys.toy1d_ood,
  'diabetes': toys.diabetes,
}

# Those whose examples are drawn by the seed.
DRAWN = frozenset({'photographs', 'spirals', 'spirals_ood', 'toy1d', 'toy1d_ood'})

# Sets named KIND:PLACE, by kind: (request, place, **settings) -> Source.
KINDS: dict[str, Callable[..., Source]] = {
  'csv': table.csv_table,
  'folder': folder.image_folder,
  'npz': npz.npz_file,
  'tfds': prepared.prepared_set,
}

# Sets with settings of their own in a configuration's `data` section.
CONFIGURED: dict[str, Callable[..., Source]] = {
  **KINDS,
  'spirals': toys.spirals,
  'toy1d': toys.toy1d,
}

# Sets in the data folder, prepared by TFDS or as NAME.npz, and their published constants.
BENCHMARKS: dict[str, dict[str, Any]] = {
  'mnist': {},
  'fashion_mnist': {},
  'notmnist': {},
  'svhn_cropped': {},
  'tiny_imagenet_32': {},
  'lsun': {},
  'imagenet2012': dict(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)),
  'cifar10': dict(valid=5000, mean=(0.4914, 0.4822, 0.4465), std=(0.2470, 0.2435, 0.2616)),
  'cifar100': dict(valid=5000, mean=(0.5072, 0.4866, 0.4410), std=(0.2673, 0.2564, 0.2760)),
}

# What a data set may be called, besides the sets in the data folder.
NAMES = (*BUILT_IN, *BENCHMARKS, 'csv:FILE', 'folder:DIR', 'npz:FILE', 'tfds:NAME')

# The out-of-distribution sets of an evaluation with evaluate.ood='default'.
OOD_DEFAULTS = {
  'digits': ('digits_inverted', 'photographs'),
  'spirals': ('spirals_ood',),
  'toy1d': ('toy1d_ood',),
  'mnist': ('fashion_mnist', 'notmnist'),
  'fashion_mnist': ('mnist', 'notmnist'),
  'cifar10': ('svhn_cropped', 'tiny_imagenet_32', 'lsun', 'cifar100'),
  'cifar100': ('svhn_cropped', 'tiny_imagenet_32', 'lsun', 'cifar10'),
}


def source_of(
  request: Request, settings: Mapping[str, Any], optional: Mapping[str, Any] | None = None
) -> Source:
  """Return the source of a data set.

  The source must have all `settings`; `optional` settings are passed to sources that have them.
  """
  kind, place = _kind_and_place(request.name, request.dir)
  known = settings_of(request.name, request.dir)
  names.check_settings(f'data set {request.name!r}', settings, known)
  paths.check('data.dir', request.dir)
  if place and kind != 'tfds':
    paths.check('folder:DIR' if kind == 'folder' else f'{kind}:FILE', place)
  arguments = {k: v for k, v in (optional or {}).items() if k in known} | dict(settings)
  if place:
    source = KINDS[kind](request, place, **arguments)
  else:
    source = dataclasses.replace(BUILT_IN[kind](request, **arguments), where=request.name)
  if not 0 <= request.split < source.splits:
    raise ValueError(
      f'data.split={request.split}: {source.where} has {source.splits} split(s), counted from 0'
    )
  stems = {'tfds': place.partition(':')[0], 'npz': pathlib.Path(place).stem}
  stem = stems.get(kind, request.name)
  if stem in BENCHMARKS:  # the same set, whichever way it is stored
    source = dataclasses.replace(source, name=stem, **BENCHMARKS[stem])
  return source


def settings_of(name: str, dir: str | None = None) -> Collection[str]:
  """Return the names of a data set's own settings; the data need not exist."""
  kind, place = _kind_and_place(name, dir)
  builder = KINDS[kind] if place else BUILT_IN[kind]
  parameters = inspect.signature(builder).parameters.values()
  return {p.name for p in parameters if p.default is not p.empty}


def _kind_and_place(name: str, dir: str | None) -> tuple[str, str]:
  """Return a kind of KINDS and a place, or a name of BUILT_IN and ''."""
  kind, _, place = name.partition(':')
  file = prepared.data_folder(dir) / f'{name}.npz'
  if name in BUILT_IN or (kind in KINDS and place):
    return kind, place
  if os.path.isfile(file):
    return 'npz', str(file)
  if name in BENCHMARKS or prepared.is_prepared(name, dir):
    return 'tfds', name
  near = _as_path(name)
  if near:
    raise ValueError(f'unknown data set {name!r}: did you mean {near!r}?')
  listing = '`ensdistill data --help` lists all of them.'
  if name and ':' not in name:
    listing += f' {file.parent} has no {file.name}: set data.dir to its folder.'
  raise names.unknown('data set', name, NAMES, listing)


def _as_path(name: str) -> str:
  """Return the name of a folder or a file of data, with its kind; '' for other names."""
  place = os.path.expanduser(name)
  if os.path.isdir(place):
    return f'folder:{name}'
  kind = {'.csv': 'csv', '.tsv': 'csv', '.npz': 'npz'}.get(pathlib.Path(place).suffix.lower())
  return f'{kind}:{name}' if kind and os.path.isfile(place) else ''
