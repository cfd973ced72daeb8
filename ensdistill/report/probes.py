"""What pictures need beyond the metrics: predictions all over a small input space, moved inputs."""

from typing import Any, NamedTuple

import jax
import numpy as np

from ensdistill import data, metrics
from ensdistill.evaluation import inference, networks
from ensdistill.members import take

SIDE = 90  # points of the plane along each axis
POINTS = 300  # of a line


class Plane(NamedTuple):
  """A grid over two-dimensional inputs, and what the ensemble and the student predict there."""

  x: np.ndarray  # [SIDE, SIDE, 2]
  predictives: dict[str, Any]  # {model: over the flattened grid}


class Line(NamedTuple):
  """Points over one-dimensional inputs, and what the ensemble and the student predict there."""

  x: np.ndarray  # [POINTS, 1]
  predictives: dict[str, Any]  # {model: over the points}


class Moved(NamedTuple):
  """Test inputs and where the run's perturbation moved them, with the teacher's uncertainty."""

  name: str
  clean: np.ndarray
  moved: np.ndarray
  before: np.ndarray  # the ensemble's knowledge uncertainty [B]
  after: np.ndarray


class Probes(NamedTuple):
  """None where it does not apply."""

  plane: Plane | None = None
  moved: Moved | None = None
  line: Line | None = None


def collect(plan, teacher, distilled) -> Probes:
  """Run the networks on the inputs that the pictures need."""
  parts = plan, teacher, distilled
  return Probes(_plane(*parts), _moved(*parts), _line(*parts))


def grid(x_BD, side: int) -> np.ndarray:
  """A grid [side, ..., D] over half as much again as the data span, rows from low to high."""
  low, high = x_BD.min(0), x_BD.max(0)
  middle, half = (low + high) / 2, 0.75 * (high - low)
  axes = [np.linspace(m - h, m + h, side, dtype=np.float32) for m, h in zip(middle, half)]
  return np.stack(np.meshgrid(*axes), -1)


def _plane(plan, teacher, distilled) -> Plane | None:
  if plan.dataset.shape != (2,):
    return None
  x = grid(plan.dataset.train.x, SIDE)
  return Plane(x, _predictives(plan, teacher, distilled, x.reshape(-1, 2)))


def _line(plan, teacher, distilled) -> Line | None:
  if plan.dataset.shape != (1,):
    return None
  x = grid(plan.dataset.train.x, POINTS)
  return Line(x, _predictives(plan, teacher, distilled, x))


def _predictives(plan, teacher, distilled, x) -> dict[str, Any]:
  """Return what the ensemble and the student of the first seed predict at these inputs."""
  section = plan.config.evaluate
  settings = {'batch': section.batch_size, 'precision': section.precision}
  ensemble, students = networks.of_run(plan.dataset, teacher, distilled, **settings)
  return {n.name: n.predict(x) for n in [ensemble, *networks.of_first_seed(students)]}


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
  predictor = inference.predictor(teacher.method, teacher.freeze, dataset, **settings)
  unsure = [_knowledge(predictor(teacher.variables, np.asarray(at))) for at in (x, moved)]
  return Moved(method.perturbation.name, np.asarray(x), moved, *unsure)


def _knowledge(predictive) -> np.ndarray:
  """Knowledge uncertainty; of regression in float64, as a target's own units need it."""
  if hasattr(predictive, 'log_probs'):
    return np.asarray(predictive.knowledge())
  return metrics.regression.uncertainties(predictive)['knowledge']
