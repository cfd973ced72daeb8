"""One student under its name: what it takes, its options, and its predictions as plain values."""

import dataclasses
import functools
import math
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from ensdistill.evaluation import cost
from ensdistill.prediction import options, results, sources
from ensdistill.prediction.options import Options
from ensdistill.predictive import GaussianMixture, Mixture
from ensdistill.serving import batching
from ensdistill.serving.refused import Refused
from ensdistill.student import calibration
from ensdistill.student.calibration import KINDS, LEVELS
from ensdistill.student.model import Model, Prediction


class Predicted(NamedTuple):
  """The predictions of one batch."""

  prediction: Prediction
  members_BMK: np.ndarray | None  # each member's own, where a request asked for them
  columns: dict[str, list]  # what every answer holds, as plain values, made once for the batch
  has_invalid: bool


@dataclasses.dataclass(frozen=True)
class Hosted:
  """A student that is served."""

  name: str
  model: Model

  @property
  def shape(self) -> tuple[int, ...]:
    """The shape of one input."""
    return tuple(self.model.spec['shape'])

  @property
  def is_table(self) -> bool:
    """Whether the inputs are rows of a table; otherwise images."""
    return len(self.shape) == 1

  @functools.cached_property
  def takes(self) -> sources.Takes:
    """What the readers of bodies need to know."""
    return sources.takes_of(self.model)

  @functools.cached_property
  def classes(self) -> list[str] | None:
    """The names of the classes, numbers where they have none; None for regression."""
    return options.classes(self.model)

  @functools.cached_property
  def has_members(self) -> bool:
    """Whether a prediction is a mixture of several members."""
    forward = self.model.predictor(1).forward
    predictive = jax.eval_shape(forward, self.model.variables, self.zeros(1))
    return self.model.student.size > 1 and isinstance(predictive, Mixture | GaussianMixture)

  def zeros(self, size: int) -> np.ndarray:
    """Return inputs that the network takes."""
    return np.zeros((size, *self.shape), np.float32)

  def values(self, rows: int, wanted: Options) -> int:
    """Return about how many numbers an answer is made from; quantiles are made from all members."""
    quantiles = self.classes is None and wanted.coverage is not None
    members = self.model.student.size if wanted.members or quantiles else 0
    return rows * self.model.spec['targets'] * (1 + members)

  def check(self, wanted: Options) -> Options:
    """Return the options with the defaults of this student; refuse those that it lacks."""
    if wanted.members and not self.has_members:
      raise Refused(400, f'{self.name} is one network without members')
    try:
      return options.checked(wanted, self.model)
    except ValueError as error:
      raise Refused(400, str(error)) from None

  def predict(self, x: np.ndarray, members: bool, max_batch: int) -> Predicted:
    """Return the predictions of a padded batch of accepted inputs."""
    p = self.model.predict(x, on_invalid='flag', batch_size=max_batch)
    own = self.model.members(x, batch_size=max_batch) if members else None
    return Predicted(p, own, self._columns(p), p.invalid is not None and bool(p.invalid.any()))

  def warm_up(self, size: int, max_batch: int) -> None:
    """Compile what predictions of this size need, and run it once."""
    self.predict(self.zeros(size), self.has_members, max_batch)

  def answers(
    self, part: batching.Part, outside: np.ndarray | None, wanted: Options, first: int = 0
  ) -> list[dict]:
    """Return the predictions of a request's rows as plain values; refuse rows without one.

    outside: which of them are far outside the training range; first: the number of the first row.
    """
    predicted, rows = part.result, slice(part.start, part.stop)
    if predicted.has_invalid and (wrong := predicted.prediction.invalid[rows]).any():
      row = first + int(np.argmax(wrong))
      raise Refused(
        400, f'row {row} is so far outside the training range that its prediction is not finite'
      )
    columns = {name: values[rows] for name, values in predicted.columns.items()}
    if wanted.calibrated or wanted.abstain is not None or wanted.coverage is not None:
      self._add(columns, predicted.prediction.rows(rows), wanted)
    if outside is not None:
      columns['outside'] = outside.tolist()
    if wanted.members and predicted.members_BMK is not None:
      columns['members'] = numbers(predicted.members_BMK[rows])
    return [dict(zip(columns, row)) for row in zip(*columns.values())]

  def _columns(self, p: Prediction) -> dict[str, list]:
    """Return what every answer holds."""
    columns: dict[str, list] = {}
    if self.classes:
      assert p.probs is not None
      probs_BK = np.nan_to_num(p.probs)
      columns['label'] = [self.classes[place] for place in probs_BK.argmax(-1).tolist()]
      columns['confidence'] = numbers(probs_BK.max(-1))
      columns['probabilities'] = numbers(probs_BK)
    else:
      assert p.mean is not None
      columns['mean'] = numbers(p.mean)
    return columns | {kind: numbers(getattr(p, kind)) for kind in ('total', 'data', 'knowledge')}

  def _add(self, columns: dict[str, list], p: Prediction, wanted: Options) -> None:
    """Add what the options ask for."""
    if wanted.calibrated and p.basis:
      columns |= self._columns(p._replace(probs=calibration.apply_temperature(p.basis)))
    if wanted.coverage is not None and self.classes:
      member_BK = p.predict_set(wanted.coverage, wanted.sets or KINDS[0])
      columns['set'] = [[self.classes[k] for k in np.flatnonzero(row)] for row in member_BK]
    elif wanted.coverage is not None:
      levels = results.levels(wanted.coverage)
      names = [results.level_name(level) for level in levels]
      quantiles_BQD = p.quantiles(levels).swapaxes(0, 1)
      columns['quantiles'] = [dict(zip(names, row)) for row in numbers(quantiles_BQD)]
    if wanted.abstain is not None:
      columns['abstain'] = p.abstain(wanted.abstain).tolist()

  @functools.cached_property
  def description(self) -> dict[str, Any]:
    """What GET /v1/models/<name> says, besides the address."""
    spec, found = self.model.spec, self.model.calibration
    return {
      'name': self.name,
      'task': 'classification' if self.classes else 'regression',
      'data': spec['data'],
      'network': spec['network']['name'],
      'student': spec['student']['kind'],
      'objective': spec['objective'],
      'members': self.model.student.size if self.has_members else 0,
      'parameters': cost.parameters(self.model.variables),
      'classes': self.classes,
      'targets': None if self.classes else spec['targets'],
      'inputs': self._inputs(),
      'calibrated': found is not None,
      'why_uncalibrated': None if found else self.model.why_uncalibrated,
      # The total uncertainty that the share `levels` of validation examples does not exceed.
      'total': {'levels': list(LEVELS), 'values': list(map(plain, found.total))} if found else None,
    }

  def _inputs(self) -> dict[str, Any]:
    spec, known = self.model.spec, self.model.spec.get('inputs') or {}
    if not self.is_table:
      own = {'mean': list(spec['mean']), 'central': self.takes.central}
      return {'kind': 'image', 'shape': list(self.shape), **own}
    columns: list[Any] = self.model.columns or [None] * self.shape[0]
    unknown = [None] * self.shape[0]
    low, high = (known.get(name) or unknown for name in ('low', 'high'))
    moments = [np.broadcast_to(spec[name], self.shape).tolist() for name in ('mean', 'std')]
    rows = zip(columns, low, high, *moments, strict=True)
    keys = 'name', 'low', 'high', 'mean', 'std'
    return {
      'kind': 'table',
      'shape': list(self.shape),
      'columns': [dict(zip(keys, row)) for row in rows],
    }


def numbers(values: np.ndarray) -> list:
  """Return numbers as nested lists, float32 with its seven digits; infinity and NaN are None."""
  finite = np.isfinite(values)
  if values.dtype == np.float32:
    values = _seven_digits(np.where(finite, values, 0))
  if finite.all():
    return values.tolist()
  found = values.astype(object)
  found[~finite] = None
  return found.tolist()


def _seven_digits(values: np.ndarray) -> np.ndarray:
  """Return float32 numbers as the float64 numbers that their seven digits say."""
  values = values.astype(np.float64)
  size = np.where(values == 0, 1, np.abs(values))
  scale = 10.0 ** (6 - np.floor(np.log10(size)))
  return np.rint(values * scale) / scale


def plain(value: float) -> float | None:
  """Return a number as strict JSON holds it: None for infinity and NaN."""
  return value if math.isfinite(value) else None


def named(students: Sequence[tuple[str | None, str, Model]]) -> list[Hosted]:
  """Return students under their names; raise ValueError if two have the same.

  students: for each one, the name that was chosen for it or None, where it is from, and itself.
  """
  found: dict[str, str] = {}
  hosted = []
  for chosen, place, model in students:
    name = _plain_name(model.spec['name']) if chosen is None else chosen
    if not re.fullmatch(r'[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}', name):
      raise ValueError(
        f'the name {name!r} must be letters, digits and . _ - (at most 100, no point at first)'
      )
    if name in found:
      raise ValueError(
        f'two students are named {name!r}, {found[name]} and {place}: give one of them another '
        f'name, as in {name}-2={place}'
      )
    found[name] = place
    hosted.append(Hosted(name, model))
  return hosted


def _plain_name(text: str) -> str:
  """Return a name that an address can hold."""
  return re.sub(r'[^A-Za-z0-9._-]+', '_', text)[:100].lstrip('.') or 'model'
