"""The networks of a run, ready to predict: the ensemble, and the views of every student."""

from typing import Any, NamedTuple

import jax

from ensdistill.evaluation import inference, rows
from ensdistill.evaluation.inference import Predictor
from ensdistill.members import take


class Network(NamedTuple):
  """A network with its role, its predictor and its variables."""

  role: str
  size: int
  predictor: Predictor
  variables: Any

  @property
  def name(self) -> str:
    """The name of its row in results.json."""
    return rows.name(self.role, self.size)

  def predict(self, x, name: str | None = None, start: int = 0):
    """Return the predictive distribution of a whole set, in the target's units.

    `name` of the set, and `start` of a block of it, are for networks that look predictions up.
    """
    del name, start
    return self.predictor(self.variables, x)

  def missing(self, wanted) -> dict[str, str]:
    """Return {set without predictions: the reason}: a network predicts everywhere."""
    del wanted
    return {}


def of_run(dataset, teacher, distilled, **settings) -> tuple[Network | None, list[Network]]:
  """Return the ensemble, if it is known, and the views of every student seed by seed.

  Views of one kind share programs. `settings` are those of a predictor: batch and precision.
  """
  ensemble = teacher.network(dataset, **settings)
  method, students = distilled.method, []
  predictors: dict[str, Predictor] = {}
  for seed in range(jax.tree.leaves(distilled.variables)[0].shape[0]):
    views = method.student.views(take(distilled.variables, seed))
    for name, (student, variables) in views.items():
      if name not in predictors:
        predictors[name] = inference.predictor(method, student.freeze, dataset, **settings)
      students.append(Network(rows.ROLES[name], student.size, predictors[name], variables))
  return ensemble, students


def of_first_seed(students: list[Network]) -> list[Network]:
  """Return the views of the first student."""
  first: dict[str, Network] = {}
  for student in students:
    first.setdefault(student.role, student)
  return list(first.values())
