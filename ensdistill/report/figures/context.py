"""What pictures are drawn from, and the arrays that several of them read, computed once."""

from typing import Any, NamedTuple

import numpy as np

from ensdistill import metrics
from ensdistill.metrics import entropies, scoring
from ensdistill.report import probes as probes_lib


class Read(NamedTuple):
  """One model's predictions on one set."""

  log_probs_BK: np.ndarray | None  # None for regressors
  uncertainties: dict[str, np.ndarray]  # 'total', 'data', 'knowledge': [B]


class Context:
  """The data set, the rows of results.json, and every model's predictive distributions."""

  def __init__(self, dataset, rows, models, probes=None):
    self.dataset = dataset
    self.rows = {row['name']: row for row in rows}
    self.models = {model.name: model.repeats for model in models}
    self.probes = probes or probes_lib.Probes()
    self._read: dict[tuple, list[Read]] = {}

  @property
  def ensembles(self) -> list[str]:
    return [name for name in self.models if name.startswith('ensemble-')]

  @property
  def ensemble(self) -> str | None:
    """The name of the ensemble of all members; None where the teacher is one network."""
    return self.ensembles[-1] if self.ensembles else None

  @property
  def students(self) -> list[str]:
    return [name for name in self.models if name.startswith('student')]

  @property
  def main(self) -> list[str]:
    """The models that most pictures compare: one member, the whole ensemble, the students."""
    return ['member', *filter(None, [self.ensemble]), *self.students]

  def metric(self, name: str, key: str) -> float | None:
    return self.rows[name]['metrics'].get(key)

  def sets(self, prefix: str) -> list[str]:
    return [s for s in self.models['member'][0] if s.startswith(prefix)]

  def read(self, name: str, set_name: str) -> list[Read]:
    """A model's predictions on a set, one entry for each repeat (member, or student's seed)."""
    key = name, set_name
    if key not in self._read:
      self._read[key] = [read(repeat[set_name]) for repeat in self.models[name]]
    return self._read[key]

  def uncertainty(self, name: str, set_name: str, kind: str) -> np.ndarray:
    """Of all repeats, one after the other."""
    return np.concatenate([r.uncertainties[kind] for r in self.read(name, set_name)])

  def losses(self, name: str) -> list[np.ndarray]:
    """What rejecting an example spares: its 0-1 error, or its squared error; one [B] a repeat."""
    x, y = self.dataset.test.x, self.dataset.test.y
    assert len(x) == len(y)
    if self.dataset.family == 'categorical':
      return [~scoring.correct(r.log_probs_BK, y) * 1.0 for r in self.read(name, 'test')]
    return [metrics.regression.squared_errors(r['test'], y) for r in self.models[name]]

  def pits(self, name: str) -> list[np.ndarray]:
    """Of a regressor on the test set, [B, D] of each repeat."""
    y = self.dataset.test.y
    return [metrics.pit(repeat['test'], y) for repeat in self.models[name]]

  def knows(self, name: str) -> bool:
    """Does the model tell knowledge from data uncertainty at all? A single network does not."""
    return float(self.uncertainty(name, 'test', 'knowledge').max()) > 1e-9


def read(predictive: Any) -> Read:
  """A predictive distribution of either family as arrays on the host."""
  if hasattr(predictive, 'log_probs'):
    return Read(*entropies.log_probs_and_uncertainties(predictive))
  return Read(None, metrics.regression.uncertainties(predictive))
