"""An ensemble that is known by its outputs: arrays [N, M, O] for the parts of a data set."""

import dataclasses
import hashlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from ensdistill import families
from ensdistill.data import Dataset
from ensdistill.data.errors import DataError
from ensdistill.evaluation import rows
from ensdistill.method import Method

PARTS = ('train', 'valid', 'test')
OOD = 'ood/'  # the prefix of out-of-distribution sets
FEWEST = 50  # examples below which agreement with the labels proves nothing
ERRORS = 3.0  # standard errors above chance that outputs must reach


@dataclasses.dataclass(frozen=True)
class Outputs:
  """Checked outputs of M members, in standardised units, by the names of an evaluation's sets."""

  tables: Mapping[str, np.ndarray]  # {'train', 'valid', 'test', 'ood/<set>': [N, M, O]}
  where: str  # file, for messages
  content: str  # digest of the arrays
  agreement: Mapping[str, list[float]]  # {part: accuracy or correlation of each member}

  @property
  def size(self) -> int:
    """The number of members."""
    return next((table.shape[1] for table in self.tables.values()), 0)

  def missing(self, names) -> list[str]:
    """Return the sets of an evaluation that the outputs do not cover."""
    return [name for name in names if name not in self.tables]


@dataclasses.dataclass(frozen=True)
class Recorded:
  """The ensemble of stored outputs, as the chapters of a run see a teacher."""

  method: Method
  outputs: Outputs

  @property
  def size(self) -> int:
    """The number of members."""
    return self.outputs.size

  variables: tuple = ()  # none that could be applied or timed

  @property
  def fingerprint(self) -> str:
    """The short digest of the outputs."""
    return self.outputs.content[:16]

  def frozen(self) -> None:
    """Return None: there are no members that a training step could call."""

  def outputs_on(self, dataset, section, writer) -> np.ndarray:
    """Return the outputs [N, M, O] on the training inputs."""
    del dataset, section, writer
    return self.outputs.tables['train']

  def network(self, dataset, **settings) -> 'RecordedNetwork':
    """Return what an evaluation sees."""
    del settings
    units = dataset.target_mean, dataset.target_std
    return RecordedNetwork(rows.ENSEMBLE, self.size, self.method, self.outputs.tables, units)


class RecordedNetwork(NamedTuple):
  """Predictions looked up by the name of a set; see networks.Network."""

  role: str
  size: int
  method: Method
  tables: Mapping[str, np.ndarray]
  units: Any

  @property
  def name(self) -> str:
    """The name of its row in results.json."""
    return rows.name(self.role, self.size)

  def predict(self, x, name: str | None = None, start: int = 0):
    """Return the predictive distribution of a set or a block of it; None where it is unknown."""
    table = self.tables.get(name or '')
    if table is None:
      return None
    block = table[start : start + len(x)]
    assert len(block) == len(x), f'{name}: {len(x)} inputs, {len(block)} rows of outputs'
    predictive = self.method.objective.predictive(self.method.family, block)
    return predictive.in_units(*self.units)


def from_arrays(
  arrays: Mapping[str, np.ndarray], dataset: Dataset, where: str, ood_rows: Mapping | None = None
) -> Outputs:
  """Return the outputs of the data set's own examples, checked.

  Args:
    arrays: {'train', 'valid', 'test', 'ood/<set>': [N, M, O]}, a row for each example of that part
      of the source, in its order.
    dataset: the data set, whose `rows` say which examples of the source it has.
    where: where the arrays come from, for messages.
    ood_rows: {set: data.Rows} of out-of-distribution sets that the run evaluates.
  """
  if 'train' not in arrays:
    raise DataError(f'{where} has no array train: store the outputs on the training examples')
  unknown = [name for name in arrays if name not in PARTS and not name.startswith(OOD)]
  if unknown:
    raise DataError(f'{where}: unknown array {unknown[0]!r}: store train, valid, test, ood/<set>')
  members = arrays['train'].shape[1:2]
  for name, array in arrays.items():
    _check(array, name, members, dataset, where)
  family = families.FAMILIES[dataset.family]
  units = dataset.target_mean, dataset.target_std
  origins = dict(dataset.rows) | {f'{OOD}{name}': r for name, r in (ood_rows or {}).items()}
  tables: dict[str, np.ndarray] = {}
  agreement: dict[str, list[float]] = {}
  for name, origin in origins.items():
    source = name if name.startswith(OOD) else origin.part
    if source not in arrays or not len(origin.rows):
      continue
    if len(arrays[source]) != origin.size:
      raise DataError(
        f'{where}: {source} has {len(arrays[source])} rows, but {dataset.name} has {origin.size} '
        f'{source} examples: store one row for each, in the order of the source'
      )
    own = np.asarray(arrays[source][origin.rows], np.float32)
    if name in PARTS:
      found = _agreement(own, getattr(dataset, name).y, family, name, where)
      agreement |= {name: found} if found else {}
    tables[name] = np.asarray(family.standardise_outputs(own, *units))
  return Outputs(tables, where, _digest(arrays), agreement)


def of_test(array: np.ndarray, dataset: Dataset, where: str) -> Outputs:
  """Return the outputs [N, M, O] of an ensemble on the test part alone, checked."""
  _check(array, 'test', array.shape[1:2], dataset, where)
  size = len(dataset.test.y)
  if len(array) != size:
    raise DataError(
      f'{where}: {len(array)} rows of outputs for {size} examples: store one for each'
    )
  family = families.FAMILIES[dataset.family]
  own = np.asarray(array, np.float32)
  found = _agreement(own, dataset.test.y, family, 'test', where)
  agreement = {'test': found} if found else {}
  units = dataset.target_mean, dataset.target_std
  tables = {'test': np.asarray(family.standardise_outputs(own, *units))}
  return Outputs(tables, where, _digest({'test': array}), agreement)


def _check(array: np.ndarray, name: str, members, dataset: Dataset, where: str) -> None:
  """Refuse an array of another kind or shape than outputs [N, M, O], and what is not finite."""
  family = families.FAMILIES[dataset.family]
  width = family.width(dataset.targets)
  meaning = 'a logit for each class' if family.has_classes else 'means, then log-variances'
  if array.dtype.kind != 'f' or array.ndim != 3 or array.shape[2] != width:
    raise DataError(
      f'{where}: {name} is {array.dtype} of shape {array.shape}: store floats [N, M, {width}], '
      f'{meaning}, for {dataset.name}'
    )
  if array.shape[1:2] != members or not array.shape[1]:
    raise DataError(
      f'{where}: {name} has {array.shape[1]} members, but train has {members[0]}: store the same '
      'members in every array'
    )
  finite = np.isfinite(array).all((1, 2))
  if not finite.all():
    row = int(np.argmin(finite))
    raise DataError(f'{where}: {name}[{row}] holds NaN or infinity: store finite numbers')
  if family.has_classes and width > 1 and len(array):
    sums = array.sum(-1, dtype=np.float64)
    if (array >= 0).all() and np.abs(sums - 1).max() < 1e-3:
      raise DataError(
        f'{where}: {name} holds probabilities (every row sums to 1): store their logarithms'
      )


def _agreement(outputs_NMO, y, family, name: str, where: str) -> list[float]:
  """Return each member's accuracy, or correlation with the targets; refuse outputs at chance.

  Rows in another order than the examples give members at chance. Chance is what a member's
  predictions reach on shuffled labels: sum_k P(prediction k) P(label k), or no correlation.
  """
  if family.has_classes:
    known = y >= 0
    if not known.any():
      return []
    found = [
      _accuracy(outputs_NMO[known, m].argmax(-1), y[known]) for m in range(_size(outputs_NMO))
    ]
    unit = 'accuracy'
  else:
    means = outputs_NMO[..., : y.shape[-1]]
    found = [_correlation(means[:, m], y) for m in range(_size(outputs_NMO))]
    unit = 'correlation with the targets'
  values = [value for value, _ in found]
  if len(y) >= FEWEST and all(value <= limit for value, limit in found):
    shown = ', '.join(f'{value:.3f}' for value in values[:4])
    raise DataError(
      f'{where}: every member is at chance on {name} ({unit} {shown}): the rows are in another '
      "order than the data set's; `ensdistill data NAME` and docs/teachers.md tell its order"
    )
  return values


def _size(outputs_NMO) -> int:
  return outputs_NMO.shape[1]


def _accuracy(predicted_N, y_N) -> tuple[float, float]:
  """Return the accuracy, and what chance may reach."""
  size = max(len(y_N), 1)
  classes = int(max(predicted_N.max(initial=0), y_N.max(initial=0))) + 1
  shares = [np.bincount(values, minlength=classes) / size for values in (predicted_N, y_N)]
  chance = float(shares[0] @ shares[1])
  return float((predicted_N == y_N).mean()), chance + ERRORS * (chance * (1 - chance) / size) ** 0.5


def _correlation(mean_ND, y_ND) -> tuple[float, float]:
  """Return the largest correlation over the targets, and what chance may reach."""
  best = -1.0
  for d in range(y_ND.shape[-1]):
    known = np.isfinite(y_ND[:, d])
    a, b = mean_ND[known, d].astype(np.float64), y_ND[known, d].astype(np.float64)
    spread = a.std() * b.std()
    if spread > 0:
      best = max(best, float(((a - a.mean()) * (b - b.mean())).mean() / spread))
  return best, ERRORS / max(len(y_ND), 1) ** 0.5


def _digest(arrays: Mapping[str, np.ndarray]) -> str:
  digest = hashlib.sha256()
  for name in sorted(arrays):
    digest.update(f'{name}{arrays[name].dtype}{arrays[name].shape}'.encode())
    digest.update(np.ascontiguousarray(arrays[name]).data)
  return digest.hexdigest()
