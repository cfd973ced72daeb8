"""What pictures need beyond the metrics: predictions over a small input space, perturbed inputs,
and networks between the members of a batch ensemble.
"""

from typing import Any, NamedTuple

import jax
import numpy as np

from ensdistill import data, metrics
from ensdistill.evaluation import networks, rows
from ensdistill.evaluation.networks import Network
from ensdistill.members import take
from ensdistill.report import subspace
from ensdistill.report.subspace import Subspace

SIDE = 90  # points of a plane along each axis
POINTS = 300  # points of a line


class Plane(NamedTuple):
  """A grid over two-dimensional inputs, and the predictions of ensemble and student there."""

  x: np.ndarray  # [SIDE, SIDE, 2]
  predictives: dict[str, Any]  # {name of the row: predictive over the flattened grid}


class Line(NamedTuple):
  """Points over one-dimensional inputs, and the predictions of ensemble and student there."""

  x: np.ndarray  # [POINTS, 1]
  predictives: dict[str, Any]  # {name of the row: predictive over the points}


class Moved(NamedTuple):
  """Test inputs before and after the run's perturbation, with the teacher's uncertainty."""

  name: str
  clean: np.ndarray
  moved: np.ndarray
  before: np.ndarray  # the ensemble's knowledge uncertainty of `clean` [B]
  after: np.ndarray  # the same of `moved`


class Probes(NamedTuple):
  """All of them; None where one does not apply."""

  plane: Plane | None = None
  moved: Moved | None = None
  line: Line | None = None
  subspace: Subspace | None = None


def collect(plan, teacher, distilled, run: tuple[Network | None, list[Network]]) -> Probes:
  """Run the networks on the inputs that the pictures need; `run` is `networks.of_run`."""
  between = subspace.measured(plan, distilled.method, take(distilled.variables, 0))
  moved = _moved(plan, teacher, distilled)
  return Probes(_plane(plan.dataset, run), moved, _line(plan.dataset, run), between)


def grid(x_BD, side: int) -> np.ndarray:
  """Return a grid [side, ..., D] over 1.5 times the range of the data, from low to high."""
  low, high = x_BD.min(0), x_BD.max(0)
  middle, half = (low + high) / 2, 0.75 * (high - low)
  axes = [np.linspace(m - h, m + h, side, dtype=np.float32) for m, h in zip(middle, half)]
  return np.stack(np.meshgrid(*axes), -1)


def _plane(dataset, run) -> Plane | None:
  if dataset.shape != (2,):
    return None
  x = grid(dataset.train.x, SIDE)
  return Plane(x, _predictives(run, x.reshape(-1, 2)))


def _line(dataset, run) -> Line | None:
  if dataset.shape != (1,):
    return None
  x = grid(dataset.train.x, POINTS)
  return Line(x, _predictives(run, x))


def _predictives(run, x) -> dict[str, Any]:
  """Return the predictions of the ensemble and of the student of the first seed."""
  ensemble, students = run
  shown = networks.of_first_seed(students)
  if ensemble is not None:
    alone = ensemble.size == 1  # the rows of the comparison have no ensemble then
    shown.insert(0, ensemble._replace(role=rows.MEMBER) if alone else ensemble)
  found = {network.name: network.predict(x) for network in shown}
  return {name: predictive for name, predictive in found.items() if predictive is not None}


def _moved(plan, teacher, distilled) -> Moved | None:
  """Return test inputs before and after the run's perturbation; None where it has none."""
  method, dataset = distilled.method, plan.dataset
  if method.perturbation is None:
    return None
  test = dataset.test.x
  few = test[:8] if len(dataset.shape) == 3 else test[:: -(-len(test) // 200)]  # of all classes
  x = data.as_input(few)

  @jax.jit
  def move(x, frozen, variables):
    members, student = teacher.freeze(frozen), method.student.freeze(variables)
    key = jax.random.key(plan.config.seed)
    return method.perturbation.apply(key, x, members, student, method.family, method.space)

  moved = jax.device_get(move(x, teacher.variables, take(distilled.variables, 0)))
  settings = {'batch': len(x), 'precision': plan.config.evaluate.precision}
  ensemble = teacher.network(dataset, **settings)
  uncertainties = metrics.of(dataset.family).uncertainties
  before, after = (
    uncertainties(ensemble.predict(np.asarray(at)))['knowledge'] for at in (x, moved)
  )
  return Moved(method.perturbation.name, np.asarray(x), moved, before, after)
