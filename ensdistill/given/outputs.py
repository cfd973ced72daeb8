"""An ensemble that is known by its outputs: arrays [N, M, O] for the parts of a data set."""

import dataclasses
import hashlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from ensdistill import families, names
from ensdistill.data import Dataset
from ensdistill.data.errors import DataError
from ensdistill.evaluation import rows
from ensdistill.given import orders
from ensdistill.method import Method

PARTS = ('train', 'valid', 'test')
OOD = 'ood/'  # the prefix of out-of-distribution sets
FEWEST = 50  # examples below which agreement with the labels proves nothing
ERRORS = 3.0  # standard errors above chance that outputs must reach
UNEVEN = 0.1  # by which members are less accurate on training examples than rows in order give
SCALE = 10.0  # targets that move this many times as far as the means are in other units


def is_array(ensemble) -> bool:
  """Return whether an ensemble is given as the array of its outputs."""
  return hasattr(ensemble, 'shape') and hasattr(ensemble, 'dtype')


@dataclasses.dataclass(frozen=True)
class Outputs:
  """Checked outputs of M members, in standardised units, by the names of an evaluation's sets."""

  tables: Mapping[str, np.ndarray]  # {'train', 'valid', 'test', 'ood/<set>': [N, M, O]}
  where: str  # file, for messages
  content: str  # digest of the arrays
  agreement: Mapping[str, list[float]]  # {part: accuracy or correlation of each member}
  unused: tuple[str, ...] = ()  # out-of-distribution sets in the file that are not evaluated
  doubt: str = ''  # warning about the order of the columns

  @property
  def size(self) -> int:
    """The number of members."""
    return next((table.shape[1] for table in self.tables.values()), 0)


@dataclasses.dataclass(frozen=True)
class Recorded:
  """The ensemble of stored outputs, with the interface of a teacher."""

  method: Method
  outputs: Outputs
  variables: tuple = ()  # unknown

  @property
  def size(self) -> int:
    """The number of members."""
    return self.outputs.size

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

  def network(self, dataset, **settings) -> 'RecordedNetwork | None':
    """Return what an evaluation sees; None where nothing is known of the ensemble."""
    del settings
    if not self.outputs.tables:
      return None
    units = dataset.target_mean, dataset.target_std
    return RecordedNetwork(rows.ENSEMBLE, self.size, self.method, self.outputs, units)


class RecordedNetwork(NamedTuple):
  """Predictions looked up by the name of a set; see networks.Network."""

  role: str
  size: int
  method: Method
  outputs: Outputs
  units: Any
  variables: tuple = ()  # unknown

  @property
  def name(self) -> str:
    """The name of its row in results.json."""
    return rows.name(self.role, self.size)

  def predict(self, x, name: str | None = None, start: int = 0):
    """Return the predictive distribution of a set or a block of it; None where it is unknown."""
    table = self.outputs.tables.get(name or '')
    if table is None:
      return None
    block = table[start : start + len(x)]
    assert len(block) == len(x), f'{name}: {len(x)} inputs, {len(block)} rows of outputs'
    predictive = self.method.objective.predictive(self.method.family, block)
    return predictive.in_units(*self.units)

  def missing(self, wanted) -> dict[str, str]:
    """Return {set without predictions: the reason}."""
    unknown = [name for name in wanted if name not in self.outputs.tables]
    return dict.fromkeys(unknown, f'{self.outputs.where} has no outputs for it')


def from_arrays(
  arrays: Mapping[str, np.ndarray],
  dataset: Dataset,
  where: str,
  ood_rows: Mapping | None = None,
  check_order: bool = True,
) -> Outputs:
  """Return the outputs of the data set's own examples, checked.

  Args:
    arrays: {'train', 'valid', 'test', 'ood/<set>': [N, M, O]}, a row for each example of that part
      of the source, in its order.
    dataset: the data set, whose `rows` say which examples of the source it has.
    where: where the arrays come from, for messages.
    ood_rows: {set: data.Rows} of out-of-distribution sets that the run evaluates.
    check_order: refuse members that are at chance.
  """
  if 'train' not in arrays:
    known = ', '.join(sorted(arrays)) or 'nothing'
    raise DataError(
      f'{where} has no array train (it has {known}): store the outputs on the training examples'
    )
  unknown = [name for name in arrays if name not in PARTS and not name.startswith(OOD)]
  if unknown:
    near = names.nearest(unknown[0], PARTS)
    hint = f' (did you mean {near!r}?)' if near else ''
    raise DataError(
      f'{where}: unknown array {unknown[0]!r}{hint}: store train, valid, test, ood/<set>'
    )
  members = arrays['train'].shape[1:2]
  for name, array in arrays.items():
    _check(array, name, members, dataset, where)
  family = families.FAMILIES[dataset.family]
  units = dataset.target_mean, dataset.target_std
  origins = dict(dataset.rows) | {f'{OOD}{name}': r for name, r in (ood_rows or {}).items()}
  _check_used(arrays, dataset, where)
  tables: dict[str, np.ndarray] = {}
  agreement: dict[str, list[float]] = {}
  doubt = ''
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
      # Validation rows that were cut out of the training rows have been judged there.
      cut_out = name == 'valid' and source != 'valid'
      remedy = 'set teacher.check_order=false' if check_order and not cut_out else None
      y = getattr(dataset, name).y
      found = _agreement(own, y, family, name, where, remedy)
      if not (cut_out or family.has_classes):
        _check_units(own, y, name, where)
      agreement |= {name: found} if found else {}
      if name == 'train' and found and family.has_classes:
        doubt = _doubt(own, dataset.train.y)
    tables[name] = np.asarray(family.standardise_outputs(own, *units))
  if family.has_classes and min(len(dataset.train.y), len(dataset.test.y)) >= FEWEST:
    doubt = doubt or _uneven(agreement)
  unused = tuple(name for name in arrays if name.startswith(OOD) and name not in tables)
  return Outputs(tables, where, _digest(arrays), agreement, unused, doubt)


def _check_used(arrays, dataset: Dataset, where: str) -> None:
  """Refuse arrays of parts that the source does not have."""
  known = {origin.part for origin in dataset.rows.values()}
  unused = [name for name in arrays if name in PARTS and name not in known]
  if unused and not dataset.unused:
    raise DataError(
      f'{where}: array {unused[0]!r}, but {dataset.name} has no {unused[0]} part: store '
      f'{", ".join(sorted(known))}'
    )


def of_test(array: np.ndarray, dataset: Dataset, where: str, check_order: bool = True) -> Outputs:
  """Return the outputs [N, M, O] of an ensemble on the test part alone, checked."""
  _check(array, 'test', array.shape[1:2], dataset, where)
  size = len(dataset.test.y)
  if len(array) != size:
    raise DataError(
      f'{where}: {len(array)} rows of outputs for {size} examples: store one for each'
    )
  family = families.FAMILIES[dataset.family]
  own = np.asarray(array, np.float32)
  remedy = 'pass check_order=False' if check_order else None
  found = _agreement(own, dataset.test.y, family, 'test', where, remedy)
  if not family.has_classes:
    _check_units(own, dataset.test.y, 'test', where)
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
      f'{meaning}, for {dataset.name}{_hint(dataset, array.shape[-1] if array.ndim else 0)}'
    )
  if array.shape[1:2] != members or not array.shape[1]:
    raise DataError(
      f'{where}: {name} has {array.shape[1]} members, but train has {members[0]}: store the same '
      'members in every array, [N, M, O] with the examples first'
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


def _hint(dataset: Dataset, width: int) -> str:
  """Return a remedy for labels that are stored as floats."""
  y = dataset.train.y
  if y.dtype.kind != 'f' or y.shape[-1:] != (1,) or width < 2 or (y != np.round(y)).any():
    return ''
  return '; y holds floats that are whole numbers: pass integers if they are classes'


def _agreement(outputs_NMO, y, family, name: str, where: str, remedy: str | None) -> list[float]:
  """Return each member's accuracy, or correlation with the targets; refuse outputs at chance.

  Rows in another order than the examples give members at chance. Chance is what a member's
  predictions reach on shuffled labels. A single member at chance is refused where the median of all
  is above twice that. Members whose predictions cannot tell are not judged:
  constant ones, or few of a rare class. `remedy` says how to accept outputs at chance; without it
  they are accepted.
  """
  if family.has_classes:
    known = y >= 0
    size = int(known.sum())
    if not size:
      return []
    found = [
      _accuracy(outputs_NMO[known, m].argmax(-1), y[known]) for m in range(_size(outputs_NMO))
    ]
    unit = 'accuracy'
  else:
    size = int(np.isfinite(y).any(-1).sum())
    means = outputs_NMO[..., : y.shape[-1]]
    found = [_correlation(means[:, m], y) for m in range(_size(outputs_NMO))]
    unit = 'correlation with the targets'
  values = [value for value, _ in found]
  if not remedy or size < FEWEST:
    return values
  telling = [value <= limit for value, limit in found if limit is not None]
  if telling and all(telling):
    shown = ', '.join(f'{value:.3f}' for value in values[:4])
    why = _doubt(outputs_NMO, y) if family.has_classes else ''
    whole = not family.has_classes and not (y != np.round(y)).any()
    floats = ' (or y holds classes as floats)' if whole else ''
    why = why or (
      f"the rows are in another order than the data set's{floats}; `ensdistill data NAME` and "
      f'docs/teachers.md tell its order. If they are right, {remedy}'
    )
    raise DataError(f'{where}: every member is at chance on {name} ({unit} {shown}): {why}')
  middle = float(np.median(values))
  for number, (value, limit) in enumerate(found):
    if limit is not None and value <= limit and middle > 2 * limit:
      raise DataError(
        f'{where}: member {number} is at chance on {name} ({unit} {value:.3f}, the median of all '
        f'members is {middle:.3f}): its rows or columns are in another order than those of the '
        f'others. If they are right, {remedy}'
      )
  return values


def _uneven(agreement: Mapping[str, list[float]]) -> str:
  """Return a warning where members are far less accurate on training than on test examples."""
  if not {'train', 'test'} <= agreement.keys():
    return ''
  train, test = (float(np.median(agreement[part])) for part in ('train', 'test'))
  if train > test - UNEVEN:
    return ''
  return (
    f'members are far less accurate on train ({train:.3f}) than on test ({test:.3f}): some rows of '
    'train may be in another order than the examples'
  )


def _doubt(outputs_NMO, y_N) -> str:
  """Return a warning about the order of the columns, or ''."""
  known = y_N >= 0
  columns = None
  if known.sum() >= FEWEST and outputs_NMO.shape[-1] > 1:
    columns = orders.columns_of_classes(outputs_NMO[known], y_N[known])
  return orders.remedy(columns) if columns else ''


def _size(outputs_NMO) -> int:
  return outputs_NMO.shape[1]


def _accuracy(predicted_N, y_N) -> tuple[float, float | None]:
  """Return the accuracy, and what chance may reach; None where the predictions cannot tell.

  Of n shuffled labels sum_k a_k b_k / n agree on average, for a_k predictions and b_k labels of
  class k. The variance is that of a linear permutation statistic (Hoeffding, 1951).
  """
  size = len(y_N)
  classes = int(max(predicted_N.max(initial=0), y_N.max(initial=0))) + 1
  a_K, b_K = (np.bincount(n, minlength=classes).astype(float) for n in (predicted_N, y_N))
  both_K = a_K * b_K
  total = both_K.sum()
  spread = total - (both_K * (a_K + b_K)).sum() / size + (total / size) ** 2
  variance = spread / max(size - 1, 1)
  accuracy = float((predicted_N == y_N).mean())
  if variance < 1:
    return accuracy, None
  return accuracy, float(total / size + ERRORS * variance**0.5) / size


def _correlation(mean_ND, y_ND) -> tuple[float, float | None]:
  """Return the largest correlation over the targets, and what chance may reach."""
  found = [_moments(mean_ND[:, d], y_ND[:, d]) for d in range(y_ND.shape[-1])]
  varying = [(correlation, size) for correlation, _, _, size in found if correlation is not None]
  if not varying:
    return 0.0, None
  best, size = max(varying)
  return best, ERRORS / max(size, 1) ** 0.5


def _moments(mean_N, y_N) -> tuple[float | None, float, float, int]:
  """Return correlation, R^2, the slope of y over the means, and the number of known targets."""
  known = np.isfinite(y_N)
  a, b = mean_N[known].astype(np.float64), y_N[known].astype(np.float64)
  size = len(b)
  if not size or not a.std() or not b.std():
    return None, 0.0, 1.0, size
  correlation = float(((a - a.mean()) * (b - b.mean())).mean() / (a.std() * b.std()))
  r2 = 1 - float(np.square(a - b).mean() / b.var())
  return correlation, r2, correlation * float(b.std() / a.std()), size


def _check_units(outputs_NMO, y_ND, name: str, where: str) -> None:
  """Refuse means that follow a target, but at another scale or offset, in every member."""
  if np.isfinite(y_ND).any(-1).sum() < FEWEST:
    return
  mean_NMD = outputs_NMO[..., : y_ND.shape[-1]]
  for d in range(y_ND.shape[-1]):
    found = [_moments(mean_NMD[:, m, d], y_ND[:, d]) for m in range(_size(mean_NMD))]
    follows = all(c is not None and c > 0.5 for c, *_ in found)
    if follows and all(r2 < 0 or slope > SCALE for _, r2, slope, _ in found):
      own, theirs = mean_NMD[..., d], y_ND[np.isfinite(y_ND[:, d]), d]
      raise DataError(
        f"{where}: {name} is not in the target's units: means {own.mean():.4g} ± {own.std():.4g}, "
        f'targets {theirs.mean():.4g} ± {theirs.std():.4g}: store means and log-variances of the '
        'targets as the data set holds them'
      )


def _digest(arrays: Mapping[str, np.ndarray]) -> str:
  digest = hashlib.sha256()
  for name in sorted(arrays):
    digest.update(f'{name}{arrays[name].dtype}{arrays[name].shape}'.encode())
    digest.update(np.ascontiguousarray(arrays[name]).data)
  return digest.hexdigest()
