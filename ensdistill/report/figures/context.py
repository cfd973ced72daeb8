"""The data of all pictures, and the arrays that several pictures need, computed once."""

from typing import Any, NamedTuple

import numpy as np

from ensdistill import families, metrics
from ensdistill.evaluation.rows import ENSEMBLE, MEMBER, STUDENTS
from ensdistill.metrics import entropies, scoring
from ensdistill.report.figures import style
from ensdistill.report.probes import Probes


class Predictions(NamedTuple):
  """One model's predictions on one set."""

  log_probs_BK: np.ndarray | None  # None for regression
  uncertainties: dict[str, np.ndarray]  # 'total', 'data', 'knowledge': [B]


class Context:
  """The data set, the rows of results.json, and every model's predictive distributions."""

  def __init__(self, dataset, rows, models, probes=None):
    self.dataset = dataset
    self.has_classes = families.FAMILIES[dataset.family].has_classes
    self.rows = {row['name']: row for row in rows}
    self.models = {model.name: model for model in models}
    self.probes = probes or Probes()
    self._predictions: dict[tuple[str, str], list[Predictions]] = {}

  def _of_role(self, *roles: str) -> list[str]:
    return [name for name, model in self.models.items() if model.role in roles]

  @property
  def member(self) -> str | None:
    """The name of the single member; None where its predictions are unknown."""
    return next(iter(self._of_role(MEMBER)), None)

  @property
  def ensemble(self) -> str | None:
    """The name of the ensemble of all members; None where the teacher is one network."""
    return max(self._of_role(ENSEMBLE), key=lambda name: self.models[name].size, default=None)

  @property
  def students(self) -> list[str]:
    """The names of the student's views."""
    return self._of_role(*STUDENTS)

  @property
  def main(self) -> list[str]:
    """The models that most pictures compare: one member, the whole ensemble, the students."""
    return [*filter(None, [self.member, self.ensemble]), *self.students]

  @property
  def unit(self) -> str:
    """The unit of uncertainties."""
    return 'nats' if self.has_classes else 'variance'

  def look(self, name: str) -> style.Look:
    """Return colour, marker and title of a model."""
    return style.look(self.models[name].role, self.models[name].size)

  def metric(self, name: str, key: str) -> float | None:
    """Return a metric of a model's row."""
    return self.rows[name]['metrics'].get(key)

  def sets(self, prefix: str) -> list[str]:
    """Return the names of the evaluated sets that start with this prefix."""
    return [s for s in self.models[self.main[0]].repeats[0] if s.startswith(prefix)]

  def distributions(self, name: str, set_name: str) -> list[Any]:
    """Return a model's predictive distributions on a set, one per repeat (member or seed)."""
    return [repeat[set_name] for repeat in self.models[name].repeats]

  def predictions(self, name: str, set_name: str) -> list[Predictions]:
    """Return a model's predictions on a set as arrays, one entry per repeat."""
    key = name, set_name
    if key not in self._predictions:
      self._predictions[key] = [self.arrays(p) for p in self.distributions(name, set_name)]
    return self._predictions[key]

  def arrays(self, distribution) -> Predictions:
    """Return a predictive distribution as arrays on the host."""
    if self.has_classes:
      return Predictions(*entropies.log_probs_and_uncertainties(distribution))
    return Predictions(None, metrics.regression.uncertainties(distribution))

  def uncertainty(self, name: str, set_name: str, kind: str) -> np.ndarray:
    """Return an uncertainty on a set, all repeats one after the other."""
    return np.concatenate([p.uncertainties[kind] for p in self.predictions(name, set_name)])

  def losses(self, name: str) -> list[np.ndarray]:
    """Return what rejecting a test example saves, [B] per repeat: 0-1 error or squared error."""
    x, y = self.dataset.test.x, self.dataset.test.y
    assert len(x) == len(y)
    if self.has_classes:
      return [~scoring.correct(p.log_probs_BK, y) * 1.0 for p in self.predictions(name, 'test')]
    return [metrics.regression.squared_errors(p, y) for p in self.distributions(name, 'test')]

  def pits(self, name: str) -> list[np.ndarray]:
    """Return the PIT of a regressor on the test set, [B, D] per repeat."""
    return [metrics.pit(p, self.dataset.test.y) for p in self.distributions(name, 'test')]

  def knows(self, name: str) -> bool:
    """Return whether the model has knowledge uncertainty at all; a single network has none."""
    return float(self.uncertainty(name, 'test', 'knowledge').max()) > 1e-9
