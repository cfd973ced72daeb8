"""What a data set is once it is in memory: checked arrays and the constants that go with them."""

import dataclasses
import hashlib
import json
from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from ensdistill.data.images import sizes
from ensdistill.perturb import Space


class DataError(Exception):
  """The data are missing, damaged or mislabelled: not a wrong setting, which is a ValueError."""


class MissingData(DataError, FileNotFoundError):
  """A file or a prepared data set is not at hand; the message says how to get it."""


class InputsOnly(DataError):
  """The set can serve as inputs, but not be trained on."""


class Split(NamedTuple):
  """Inputs and labels of one part of a data set."""

  # uint8 images [N, H, W, C], float32 images in [0, 1], or float32 tables [N, D]; or stored.Stored,
  # uint8 images that are decoded when rows of it are asked for
  x: np.ndarray
  y: (
    np.ndarray | None
  )  # int32 [N], -1 = no label; float32 [N, D], NaN = no label; None: inputs alone


@dataclasses.dataclass(frozen=True)
class Source:
  """Where the arrays of a data set come from; every part is read only when it is asked for."""

  name: str
  parts: dict[str, Callable[[], Split]]  # of 'train', 'valid', 'test'
  columns: tuple[str, ...] | None = None  # the names of a table's columns
  classes: tuple[str, ...] | None = None
  targets: int | None = None  # number of classes, where the source states it
  valid: int | None = None  # so many of the LAST training examples; None: a seeded tenth
  splits: int = 1  # how many ways of cutting it come with the set
  mean: tuple[float, ...] | None = None  # published constants; None: those of the training split
  std: tuple[float, ...] | None = None
  unused: str = ''  # what is there and is not used, why, and what is used instead


class Inputs(NamedTuple):
  """What a data set has besides labels."""

  name: str
  parts: dict[str, np.ndarray]  # as in Split
  mean: tuple[float, ...]  # as in Dataset, of the first part
  std: tuple[float, ...]
  sampled: int
  columns: tuple[str, ...] | None
  where: str

  @property
  def shape(self) -> tuple[int, ...]:
    """The shape of one input."""
    return next(iter(self.parts.values())).shape[1:]


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
  """A data set, checked, and what a network and a perturbation need to know of its inputs."""

  name: str
  train: Split
  valid: Split
  test: Split
  targets: int  # classes, or dimensions of the target
  family: str  # 'categorical' or 'gaussian'
  mean: tuple[float, ...]  # per channel or feature of the inputs as the network sees them
  std: tuple[float, ...]
  space: Space
  target_mean: tuple[float, ...]  # of regression targets; 0 and 1 for classes
  target_std: tuple[float, ...]
  classes: tuple[str, ...] | None
  fingerprint: str
  columns: tuple[str, ...] | None = None  # the names of a table's columns
  where: str = ''  # the file or folder that it was read from
  streams: bool = False  # training examples come to the device batch by batch
  skipped: tuple[str, ...] = ()  # images that could not be read: which and why
  sampled: int = 0  # examples that mean and deviation are estimated from; 0: they are not
  unused: str = ''  # what came with it and is not used

  @property
  def shape(self) -> tuple[int, ...]:
    """The shape of one input."""
    return self.train.x.shape[1:]

  @property
  def in_files(self) -> bool:
    """Whether training images stay in their files, to be decoded batch by batch."""
    return not isinstance(self.train.x, np.ndarray)


def as_input(x):
  """Stored inputs as a network sees them: float32, uint8 images brought to [0, 1]."""
  x = jnp.asarray(x)
  return x.astype(jnp.float32) / 255 if x.dtype == jnp.uint8 else x.astype(jnp.float32)


def no_labels(y: np.ndarray, size: int) -> np.ndarray:
  """So many missing labels in the form of y."""
  missing = -1 if y.dtype.kind == 'i' else np.nan
  return np.full((size, *y.shape[1:]), missing, y.dtype)


def join(dataset: Dataset, inputs: np.ndarray) -> Dataset:
  """The data set with auxiliary inputs behind its training split, without labels (EnD2+AUX).

  The constants stay those of the data set itself, so that its networks keep their normalisation.
  """
  x, y = dataset.train
  if not isinstance(x, np.ndarray):
    raise ValueError(
      f'auxiliary inputs cannot join {dataset.name}, which stays in its files: set data.stream=off'
    )
  inputs = np.asarray(inputs)
  inputs = sizes.as_dtype(inputs, x.dtype) if inputs.ndim == 4 else inputs.astype(x.dtype)
  if inputs.shape[1:] != dataset.shape:
    raise ValueError(
      f'auxiliary inputs of shape {inputs.shape[1:]} cannot join {dataset.name} of shape '
      f'{dataset.shape}: load them with shape={dataset.shape}'
    )
  train = Split(np.concatenate([x, inputs]), np.concatenate([y, no_labels(y, len(inputs))]))
  joined = dataclasses.replace(dataset, train=train)
  return dataclasses.replace(joined, fingerprint=fingerprint(joined))


def fingerprint(dataset: Dataset) -> str:
  """SHA-256 over all arrays and constants: equal for equal data, wherever they were read from.

  Of images in files it knows the names and sizes of the files and the form they are brought to.
  """
  digest = hashlib.sha256()
  for split in (dataset.train, dataset.valid, dataset.test):
    for array in split:
      digest.update(f'{array.dtype.str}{array.shape}'.encode())
      digest.update(
        np.ascontiguousarray(array).data if isinstance(array, np.ndarray) else array.stamp()
      )
  constants = (dataset.family, dataset.targets, dataset.mean, dataset.std)
  digest.update(json.dumps([*constants, dataset.target_mean, dataset.target_std]).encode())
  return digest.hexdigest()
