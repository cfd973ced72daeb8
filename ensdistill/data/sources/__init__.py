"""Sources of data by name: what a name stands for, and where it lies."""

import dataclasses
import inspect
import os
import pathlib
from typing import NamedTuple

from ensdistill import names
from ensdistill.data.dataset import Source
from ensdistill.data.sources import folder, npz, prepared, table, toys


class Request(NamedTuple):
  """What every source may need to know."""

  name: str
  dir: str | None
  seed: int
  split: int = 0
  shape: tuple[int, ...] | None = None  # wanted of images that differ in size
  files: bool = False  # images as they are stored: random crops are cut out of them


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

# KIND:REST: (request, rest, **settings) -> Source, and (rest, dir) -> where it lies
KINDS = {
  'csv': table.source,
  'folder': folder.source,
  'npz': npz.source,
  'tfds': prepared.source,
}
# What can be trained on and has settings: those of a configuration's `data` section.
CONFIGURED = {**KINDS, 'spirals': toys.spirals, 'toy1d': toys.toy1d}
_LOCATE = {
  'csv': npz.locate,
  'folder': folder.locate,
  'npz': npz.locate,
  'tfds': prepared.find,
}

# Sets that lie in the data folder, prepared by TFDS or as NAME.npz, and what is published of them.
PREPARED = {
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

# What an evaluation takes as out of distribution unless told.
OOD_DEFAULTS = {
  'digits': ('digits_inverted', 'photographs'),
  'spirals': ('spirals_ood',),
  'toy1d': ('toy1d_ood',),
  'mnist': ('fashion_mnist', 'notmnist'),
  'fashion_mnist': ('mnist', 'notmnist'),
  'cifar10': ('svhn_cropped', 'tiny_imagenet_32', 'lsun', 'cifar100'),
  'cifar100': ('svhn_cropped', 'tiny_imagenet_32', 'lsun', 'cifar10'),
}


def find(request: Request, settings, offered=()) -> tuple[Source, str]:
  """The source of a name and how messages call it: the file or folder where there is one.

  A setting that the source lacks is refused; of those that are `offered` it takes what it has.
  """
  kind, rest = _kind(request.name, request.dir)
  builder, known = _builder(kind, rest), settings_of(request.name, request.dir)
  names.settings(f'data set {request.name!r}', settings, known)
  settings = {k: v for k, v in dict(offered).items() if k in known} | settings
  source = builder(request, *filter(None, [rest]), **settings)
  where = str(_LOCATE[kind](rest, request.dir)) if rest else request.name
  if not 0 <= request.split < source.splits:
    raise ValueError(
      f'data.split={request.split}: {where} has {source.splits} split(s), counted from 0'
    )
  stem = {'tfds': rest.partition(':')[0], 'npz': pathlib.Path(rest).stem}.get(kind, request.name)
  if stem in PREPARED:  # the same set, whatever form it is stored in
    source = dataclasses.replace(source, name=stem, **PREPARED[stem])
  return source, where


def settings_of(name: str, dir: str | None = None) -> set[str]:
  """The settings that a set by this name has, be it at hand or not."""
  parameters = inspect.signature(_builder(*_kind(name, dir))).parameters.values()
  return {p.name for p in parameters if p.default is not p.empty}


def _kind(name: str, dir: str | None) -> tuple[str, str]:
  """How a set is read, and what of its name says which; '' for one of SOURCES."""
  kind, _, rest = name.partition(':')
  file = os.path.join(prepared.root(dir), f'{name}.npz')
  if name in SOURCES or kind in KINDS and rest:
    return kind, rest
  if os.path.isfile(file):
    return 'npz', file
  if name in PREPARED or prepared.exists(name, dir):
    return 'tfds', name
  forms = ('csv:FILE', 'folder:DIR', 'npz:FILE', 'tfds:NAME')
  raise names.unknown('data set', name, [*SOURCES, *PREPARED, *forms])


def _builder(kind: str, rest: str):
  return KINDS[kind] if rest else SOURCES[kind]
