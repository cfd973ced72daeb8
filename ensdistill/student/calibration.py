"""Calibration of a student's predictions on validation examples, stored with the student.

- temperature T: calibrated probabilities are p^(1/T) renormalised (Guo et al. 2017).
- thresholds of prediction sets, split conformal: see metrics.prediction_sets. They hold for the
  probabilities without temperature.
- offsets of quantiles, split conformal (Romano et al. 2019): the q-quantile of the predictive
  distribution plus o_q times its standard deviation, where o_q is a quantile of
  (y - q-quantile) / deviation over the validation examples.
- thresholds of the total uncertainty, above which the student abstains.

They are kept at LEVELS; another level is rounded to the next one on the safe side.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from ensdistill import families, names
from ensdistill.spec import is_finite_number
from ensdistill.storage import seals

_TAILS = 0.001, 0.005, 0.025
LEVELS = tuple(sorted([*_TAILS, *(i / 100 for i in range(1, 100)), 0.975, 0.995, 0.999]))
MOST = 10_000  # examples of regression that are used, evenly spaced
KINDS = 'lac', 'aps'
COVERAGE = 0.9  # of the sets and intervals that are measured on the test part
ABSTAIN = 0.05  # rate of abstention that is measured
_REMEDY = 'call student.calibrate(x, y) with labelled examples that it was not trained on'
UNKNOWN = f'the student was stored without a calibration: {_REMEDY}, or run its training again'
NO_VALIDATION = f'the student was trained without validation examples (data.valid=0): {_REMEDY}'


@dataclasses.dataclass(frozen=True)
class Calibration:
  """Temperature, thresholds and offsets of one student; thresholds may be infinite."""

  examples: int  # of validation
  total: tuple[float, ...]  # total uncertainty at each of LEVELS
  temperature: float | None = None  # of classifiers
  sets: Mapping[str, tuple[float, ...]] | None = None  # {kind: scores at each of LEVELS}
  offsets: tuple[tuple[float, ...], ...] | None = None  # of each target, at each of LEVELS
  test: Mapping[str, float] | None = None  # what was measured on the test part, see `measured`


class Basis(NamedTuple):
  """The predictions that sets, quantiles and abstention are computed from."""

  calibration: Calibration | None
  why: str  # the reason and the remedy if there is no calibration
  log_probs: np.ndarray | None = None  # [B, K], of a classifier
  distribution: Any = None  # of a regressor: see metrics.distributions

  def rows(self, rows) -> 'Basis':
    """Return the basis of some rows."""
    if self.log_probs is not None:
      return self._replace(log_probs=self.log_probs[rows])
    leaves = (leaf[rows] for leaf in self.distribution)
    return self._replace(distribution=type(self.distribution)(*leaves))

  def known(self) -> Calibration:
    """Return the calibration; raise ValueError without one."""
    if self.calibration is None:
      raise ValueError(self.why)
    return self.calibration


def fit(basis: Basis, total_B, y) -> Calibration:
  """Return the calibration of predictions for labelled examples."""
  from ensdistill.metrics import calibration, prediction_sets

  y = np.asarray(y)
  if basis.log_probs is None:
    y = np.asarray(y, np.float64).reshape(len(y), -1)
    if y.shape != basis.distribution.mean().shape or not np.isfinite(y).all():
      shape = list(basis.distribution.mean().shape)
      raise ValueError(f'targets must be finite and of shape {shape}, got {list(y.shape)}')
    rows = slice(None, None, -(-len(y) // MOST))  # quantiles of many members take long
    distribution, y = type(basis.distribution)(*(a[rows] for a in basis.distribution)), y[rows]
    total_B, found = np.asarray(total_B)[rows], {'offsets': _offsets(distribution, y)}
  else:
    scores = prediction_sets.label_scores(basis.log_probs, y)
    found = {
      'temperature': calibration.usable_temperature(basis.log_probs, y),
      'sets': {kind: _at_levels(scores[kind]) for kind in KINDS},
    }
  return Calibration(len(y), _at_levels(np.asarray(total_B)), **found)


def of_student(model, dataset, tested: bool = True) -> Calibration | None:
  """Return a student's calibration from the validation part of a data set, if there is one.

  model: a student.model.Model.
  tested: measure its coverage on the test part.
  """
  if dataset.valid_is_empty:
    return None
  basis, total_B = model.basis(dataset.valid.x)
  found = fit(basis, total_B, dataset.valid.y)
  if not tested:
    return found
  basis, total_B = model.basis(dataset.test.x)
  basis = basis._replace(calibration=found)
  return dataclasses.replace(found, test=measured(basis, total_B, dataset.test.y))


def _at_levels(score_B) -> tuple[float, ...]:
  from ensdistill.metrics.prediction_sets import threshold

  return tuple(threshold(score_B, level) for level in LEVELS)


def _offsets(distribution, y_BD) -> tuple[tuple[float, ...], ...]:
  """Return the offsets [D][LEVELS] of quantiles, in standard deviations.

  Above 1/2 an offset is the ceil((n + 1) q)-th smallest score, so that at least the share q of new
  targets lies at or below the quantile; below 1/2 it is the mirror image. At 1/2 it is the mean of
  both.
  """
  deviation_BD = _deviation(distribution)
  columns = []
  for level in LEVELS:
    score_BD = (y_BD - distribution.quantile(level)) / deviation_BD
    columns.append([_rank(score_BD[:, d], level) for d in range(score_BD.shape[1])])
  return tuple(zip(*columns))


def _deviation(distribution):
  return np.sqrt(distribution.data() + distribution.knowledge())


def _rank(score_B, level: float) -> float:
  from ensdistill.metrics.prediction_sets import threshold

  if level > 0.5:
    return threshold(score_B, level)
  low = -threshold(-score_B, 1 - level)
  return (low + threshold(score_B, 0.5)) / 2 if level == 0.5 else low


def _next(level: float, name: str) -> int | None:
  """Return the place of the smallest of LEVELS that is at least `level`; None above all."""
  if isinstance(level, bool) or not isinstance(level, int | float | np.number):
    raise ValueError(f'{name}={level!r} must be a number between 0 and 1, such as 0.9')
  if not 0 < level < 1:
    raise ValueError(f'{name}={level} must be between 0 and 1, such as 0.9')
  place = int(np.searchsorted(LEVELS, level - 1e-9))
  return place if place < len(LEVELS) else None


def _threshold(thresholds, level: float, name: str) -> float:
  place = _next(level, name)
  return math.inf if place is None else thresholds[place]


def apply_temperature(basis: Basis) -> np.ndarray:
  """Return the calibrated probabilities [B, K] of a classifier."""
  found = basis.known()
  if basis.log_probs is None or found.temperature is None:
    raise ValueError(
      'calibrated=True is for classifiers: student.quantiles(x, q) gives calibrated quantiles'
    )
  if not len(basis.log_probs):
    return np.zeros_like(basis.log_probs)
  from ensdistill.metrics import calibration

  soft_BK = calibration.apply_temperature(basis.log_probs, found.temperature)
  return np.exp(soft_BK).astype(np.float32)


def sets(basis: Basis, coverage: float, kind: str = 'lac') -> np.ndarray:
  """Return the classes that enter each example's prediction set: bool [B, K]."""
  names.check('kind of prediction sets', kind, KINDS)
  found = basis.known()
  if basis.log_probs is None or found.sets is None:
    raise ValueError('prediction sets are for classifiers: use quantiles(x, q) for regression')
  at_most = _threshold(found.sets[kind], coverage, 'coverage')
  if not len(basis.log_probs):
    return np.zeros(basis.log_probs.shape, bool)
  from ensdistill.metrics import prediction_sets

  return prediction_sets.members(basis.log_probs, at_most, kind)


def quantiles(basis: Basis, q) -> np.ndarray:
  """Return calibrated quantiles: [B, D] for one q, [Q, B, D] for several, as numpy.quantile."""
  found, levels = basis.known(), np.atleast_1d(np.asarray(q, np.float64))
  if basis.distribution is None or found.offsets is None:
    raise ValueError('quantiles are for regression: use predict_set(x, coverage) for classes')
  if levels.ndim > 1:
    raise ValueError(f'q has shape {levels.shape}: give a number or a list of numbers')
  offsets_DL = np.array(found.offsets)
  deviation_BD = _deviation(basis.distribution)
  result_QBD = np.empty((len(levels), *deviation_BD.shape))
  for place, level in enumerate(levels.tolist()):
    upper = _next(level, 'q') if level >= 0.5 else _mirrored(level)
    if upper is None:
      result_QBD[place] = math.copysign(math.inf, level - 0.5)
      continue
    quantile_BD = basis.distribution.quantile(LEVELS[upper])
    result_QBD[place] = quantile_BD + offsets_DL[None, :, upper] * deviation_BD
  order = np.argsort(levels, kind='stable')
  result_QBD[order] = np.sort(result_QBD, 0)  # quantiles of one example never cross
  return result_QBD if np.ndim(q) else result_QBD[0]


def _mirrored(level: float) -> int | None:
  """Return the place of the largest of LEVELS that is at most `level`; None below all."""
  place = _next(1 - level, 'q') if 0 < level < 1 else _next(level, 'q')
  return None if place is None else len(LEVELS) - 1 - place


def abstain(basis: Basis, total_B, rate: float) -> np.ndarray:
  """Return for which examples the student abstains: bool [B].

  At most the share `rate` of new examples, like those of validation, has a larger total
  uncertainty than the threshold.
  """
  found = basis.known()
  if isinstance(rate, bool) or not isinstance(rate, int | float | np.number) or not 0 < rate < 1:
    raise ValueError(f'rate={rate!r} must be between 0 and 1, such as 0.05')
  level = min(1 - rate, np.nextafter(1, 0))  # a tiny rate is rounded away
  return ~(np.asarray(total_B) <= _threshold(found.total, level, 'rate'))  # so NaN abstains


def measured(basis: Basis, total_B, y) -> dict[str, float]:
  """Return coverage, its binomial error, and the size of sets or intervals on labelled examples.

  'size' is the mean number of classes of a set; 'width' the mean width of an interval. The error of
  a share c of n examples is sqrt(c (1 - c) / n). Targets of one example are not independent, so
  several count as one.
  """
  y = np.asarray(y)
  if basis.log_probs is not None:
    member_BK = sets(basis, COVERAGE)
    held_N = member_BK[np.arange(len(y)), y]
    cost = {'size': float(member_BK.sum(1).mean())}
  else:
    tail = (1 - COVERAGE) / 2
    low_BD, high_BD = quantiles(basis, [round(tail, 9), round(1 - tail, 9)])
    held_N = ((low_BD <= y) & (y <= high_BD)).ravel()
    width = float((high_BD - low_BD).mean())
    cost = {'width': width} if math.isfinite(width) else {}
  return {
    'examples': len(y),
    'coverage': float(held_N.mean()),
    'coverage_error': binomial_error(float(held_N.mean()), len(y)),
    **cost,
    'abstained': float(abstain(basis, total_B, ABSTAIN).mean()),
  }


def binomial_error(share: float, size: int) -> float:
  """Return the standard error sqrt(c (1 - c) / n) of a share of n examples."""
  return math.sqrt(share * (1 - share) / size)


def to_json(calibration: Calibration | None) -> dict | None:
  """Return a calibration as strict JSON holds it: null in place of infinity."""
  if calibration is None:
    return None
  values = {k: seals.strict(v) for k, v in dataclasses.asdict(calibration).items() if v is not None}
  return {'levels': list(LEVELS), **values}


def from_json(stored: Mapping | None, spec: Mapping) -> Calibration | None:
  """Return the calibration in a student's description, checked; raise ValueError if it is wrong."""
  if stored is None:
    return None
  if not isinstance(stored, Mapping) or stored.get('levels') != list(LEVELS):
    raise ValueError(f'calibration must be null, or an object with the {len(LEVELS)} known levels')
  unknown = sorted(stored.keys() - {'levels', *(f.name for f in dataclasses.fields(Calibration))})
  if unknown:
    raise ValueError(f'calibration has the unknown entry {unknown[0]!r}')
  examples, test = stored.get('examples'), stored.get('test')
  if type(examples) is not int or not 0 < examples < 2**53:
    raise ValueError(
      f'calibration.examples={names.short_repr(examples)} must be a positive integer'
    )
  if test is not None and not (
    isinstance(test, Mapping) and all(map(is_finite_number, test.values()))
  ):
    raise ValueError('calibration.test must be an object of finite numbers')
  fields: dict[str, Any] = {'total': _thresholds(stored.get('total'), 'total')}
  if 'offsets' in stored:
    columns = stored['offsets']
    if not isinstance(columns, list) or len(columns) != spec['targets']:
      raise ValueError(f'calibration.offsets must be {spec["targets"]} lists')
    fields['offsets'] = tuple(_thresholds(column, 'offsets', signed=True) for column in columns)
  else:
    temperature: Any = stored.get('temperature')
    by_kind = stored.get('sets')
    if not is_finite_number(temperature) or temperature <= 0:
      raise ValueError(f'calibration.temperature={names.short_repr(temperature)} must be positive')
    if not isinstance(by_kind, Mapping) or by_kind.keys() != {*KINDS}:
      raise ValueError(f'calibration.sets must hold {", ".join(KINDS)}')
    fields['temperature'] = float(temperature)
    fields['sets'] = {kind: _thresholds(by_kind[kind], f'sets.{kind}') for kind in KINDS}
  if ('offsets' in fields) == (spec['family'] in _with_classes()):
    raise ValueError(f'calibration is not that of family {spec["family"]!r}')
  return Calibration(examples, test=dict(test) if test else None, **fields)


def _with_classes() -> list[str]:
  return [name for name, family in families.FAMILIES.items() if family.has_classes]


def _thresholds(values, name: str, signed: bool = False) -> tuple[float, ...]:
  """Return thresholds, where null is infinity: below the middle minus infinity, if `signed`."""
  if not isinstance(values, list) or len(values) != len(LEVELS):
    raise ValueError(f'calibration.{name} must be a list of {len(LEVELS)} numbers')
  for value in values:
    if value is not None and not is_finite_number(value):
      raise ValueError(
        f'calibration.{name} holds {names.short_repr(value)}: it must be numbers or null'
      )
  return tuple(
    float(value) if value is not None else -math.inf if signed and level < 0.5 else math.inf
    for level, value in zip(LEVELS, values)
  )
