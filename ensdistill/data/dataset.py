"""A data set in the form that training uses, and the form in which a source reads it."""

import dataclasses
import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from ensdistill.data.images import sizes, stored
from ensdistill.perturb import Space

# uint8 images [N, H, W, C], float32 images in [0, 1] or float32 tables [N, D] in memory; or
# stored.Stored, uint8 images in files, with the same len, shape, dtype, nbytes and indexing.
Inputs = Any


class Examples(NamedTuple):
  """One part of a data set as a source reads it."""

  x: Inputs
  y: np.ndarray | None  # None: inputs only


class Split(NamedTuple):
  """One part of a data set, checked."""

  x: Inputs
  y: np.ndarray  # int32 [N], -1 = no label; or float32 [N, D], NaN = no label


class Rows(NamedTuple):
  """The examples of a part, as rows of the part of the source that they were taken from."""

  part: str  # of the source
  rows: np.ndarray  # ascending
  size: int  # examples of that part of the source


@dataclasses.dataclass(frozen=True)
class Source:
  """Where a data set comes from; a part is read only when its function is called."""

  name: str
  parts: Mapping[str, Callable[[], Examples]]  # 'train', 'valid', 'test'
  where: str = ''  # the file or folder, for messages
  columns: tuple[str, ...] | None = None  # names of a table's columns
  classes: tuple[str, ...] | None = None  # names of the classes
  class_count: int | None = None  # number of classes, if the source states it
  # Validation takes this many of the LAST training examples; None: a tenth.
  valid: int | None = None
  splits: int = 1  # number of ways to split the set that come with it
  # Published constants; None: computed from the training part.
  mean: tuple[float, ...] | None = None
  std: tuple[float, ...] | None = None
  unused: str = ''  # what the set contains and is not used, and what is used instead
  unlabelled: str = ''  # why the set has no labels, and the remedy; '' if it has some


class Unlabelled(NamedTuple):
  """A data set without labels."""

  name: str
  parts: dict[str, Inputs]
  mean: tuple[float, ...]  # of the first part, as in Dataset
  std: tuple[float, ...]
  sampled: int
  columns: tuple[str, ...] | None
  where: str

  @property
  def first(self) -> Inputs:
    """The inputs of the first part."""
    return next(iter(self.parts.values()))

  @property
  def shape(self) -> tuple[int, ...]:
    """The shape of one input."""
    return self.first.shape[1:]


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
  """A checked data set, with the constants that networks and perturbations need."""

  name: str
  train: Split
  valid: Split
  test: Split
  targets: int  # number of classes, or dimensions of the regression target
  family: str  # a name of families.FAMILIES
  mean: tuple[float, ...]  # of the inputs as the network sees them, per channel or column
  std: tuple[float, ...]
  space: Space
  target_mean: tuple[float, ...]  # of regression targets; 0 and 1 for classes
  target_std: tuple[float, ...]
  classes: tuple[str, ...] | None
  fingerprint: str
  columns: tuple[str, ...] | None = None  # names of a table's columns
  where: str = ''  # the file or folder that it was read from
  streams: bool = False  # training examples are sent to the device batch by batch
  skipped: tuple[str, ...] = ()  # images that cannot be read, with the reason
  sampled: int = 0  # examples that mean and std are estimated from; 0: all
  unused: str = ''  # as in Source
  auxiliary: int = 0  # inputs at the end of the training part that joined it; see join
  rows: Mapping[str, Rows] = dataclasses.field(default_factory=dict)  # of 'train', 'valid', 'test'

  @property
  def shape(self) -> tuple[int, ...]:
    """The shape of one input."""
    return self.train.x.shape[1:]

  @property
  def valid_is_empty(self) -> bool:
    """Whether all training examples train, and none validate."""
    return not len(self.valid.y)

  @property
  def in_files(self) -> bool:
    """Whether training images stay in their files."""
    return stored.in_files(self.train.x)


def as_input(x):
  """Return inputs as a network sees them: float32, uint8 images scaled to [0, 1]."""
  x = jnp.asarray(x)
  return x.astype(jnp.float32) / 255 if x.dtype == jnp.uint8 else x.astype(jnp.float32)


def no_labels(y: np.ndarray, size: int) -> np.ndarray:
  """Return `size` missing labels of the same kind as y."""
  missing = -1 if y.dtype.kind == 'i' else np.nan
  return np.full((size, *y.shape[1:]), missing, y.dtype)


def join(dataset: Dataset, inputs: Inputs) -> Dataset:
  """Append auxiliary inputs without labels to the training part (EnD2+AUX).

  Mean and deviation do not change, so that networks keep their normalisation. Auxiliary images are
  not augmented, as in the code of EnD²'s authors.
  """
  if dataset.in_files:
    raise ValueError(
      f'auxiliary inputs cannot join {dataset.name}, whose images stay in their files: set '
      'data.stream=off'
    )
  x, y = dataset.train
  inputs = np.asarray(inputs)
  inputs = sizes.as_dtype(inputs, x.dtype) if inputs.ndim == 4 else inputs.astype(x.dtype)
  if inputs.shape[1:] != dataset.shape:
    raise ValueError(
      f'auxiliary inputs of shape {inputs.shape[1:]} cannot join {dataset.name} of shape '
      f'{dataset.shape}: load them with shape={dataset.shape}'
    )
  train = Split(np.concatenate([x, inputs]), np.concatenate([y, no_labels(y, len(inputs))]))
  auxiliary = dataset.auxiliary + len(inputs)
  joined = dataclasses.replace(dataset, train=train, auxiliary=auxiliary)
  return dataclasses.replace(joined, fingerprint=fingerprint(joined))


def fingerprint(dataset: Dataset) -> str:
  """Return a SHA-256 of all arrays and constants; the place of the data does not change it.

  Images in files count with the names and sizes of the files and the shape they are resized to.
  """
  digest = hashlib.sha256()
  for split in (dataset.train, dataset.valid, dataset.test):
    for array in split:
      digest.update(f'{array.dtype.str}{array.shape}'.encode())
      digest.update(stored.content(array))
  constants = (dataset.family, dataset.targets, dataset.mean, dataset.std)
  digest.update(json.dumps([*constants, dataset.target_mean, dataset.target_std]).encode())
  return digest.hexdigest()
