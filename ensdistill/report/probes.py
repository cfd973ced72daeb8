"""Inputs of pictures beyond the metrics: predictions over a small input space, perturbed inputs."""

from typing import Any, NamedTuple

import jax
import numpy as np

from ensdistill import data, mesh, metrics
from ensdistill.evaluation import inference

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


def collect(config, dataset, teacher, distilled) -> Probes:
  """Run the networks on the inputs that the pictures show."""
  parts = config, dataset, teacher, distilled
  return Probes(_plane(*parts), _moved(*parts), _line(*parts))


def grid(x_BD, side: int) -> np.ndarray:
  """Return a grid [side, ..., D] over 1.5 times the range of the data, from low to high."""
  low, high = x_BD.min(0), x_BD.max(0)
  middle, half = (low + high) / 2, 0.75 * (high - low)
  axes = [np.linspace(m - h, m + h, side, dtype=np.float32) for m, h in zip(middle, half)]
  return np.stack(np.meshgrid(*axes), -1)


def _plane(config, dataset, teacher, distilled) -> Plane | None:
  if dataset.shape != (2,):
    return None
  x = grid(dataset.train.x, SIDE)
  return Plane(x, _predictives(config, dataset, teacher, distilled, x.reshape(-1, 2)))


def _line(config, dataset, teacher, distilled) -> Line | None:
  if dataset.shape != (1,):
    return None
  x = grid(dataset.train.x, POINTS)
  return Line(x, _predictives(config, dataset, teacher, distilled, x))


def _predictives(config, dataset, teacher, distilled, x) -> dict[str, Any]:
  """What the ensemble and the student of the first seed predict at these inputs."""
  section, method = config.evaluate, distilled.method
  settings = dict(batch=section.batch_size, precision=section.precision)
  settings |= dict(device_mesh=mesh.make(1, section.batch_size))
  outputs = lambda *frozen: inference.outputs(frozen, x, **settings)
  own = teacher.method
  predictives = {
    f'ensemble-{teacher.size}': own.objective.predictive(
      own.family, outputs(teacher.freeze, teacher.variables)
    )
  }
  for name, (student, variables) in method.student.views(_first(distilled.variables)).items():
    predictives[name] = method.objective.predictive(
      method.family, outputs(student.freeze, variables)
    )
  return {name: _on_host(p, dataset) for name, p in predictives.items()}


def _moved(config, dataset, teacher, distilled) -> Moved | None:
  method = distilled.method
  if method.perturbation is None:
    return None
  test = dataset.test.x
  few = test[:8] if len(dataset.shape) == 3 else test[:: -(-len(test) // 200)]  # of all classes
  x = data.as_input(few)

  @jax.jit
  def move(x, frozen, variables):
    members = teacher.freeze(frozen)
    moved = method.perturbation.apply(
      jax.random.key(config.seed),
      x,
      members,
      method.student.freeze(variables),
      method.family,
      method.space,
    )
    return moved, *(method.family.predictive(members.outputs(at)) for at in (x, moved))

  moved, *predictives = jax.device_get(move(x, teacher.variables, _first(distilled.variables)))
  unsure = [_knowledge(method.family, _on_host(p, dataset)) for p in predictives]
  return Moved(method.perturbation.name, np.asarray(x), moved, *unsure)


def _knowledge(family, predictive) -> np.ndarray:
  """Return the knowledge uncertainty; for regression in float64, because targets have units."""
  if family.has_classes:
    return np.asarray(predictive.knowledge())
  return metrics.regression.uncertainties(predictive)['knowledge']


def _on_host(predictive, dataset):
  """A predictive distribution in the target's own units."""
  return inference.in_units(jax.device_get(predictive), dataset.target_mean, dataset.target_std)


def _first(variables):
  """Return the student of the first seed."""
  return jax.tree.map(lambda leaf: leaf[0], variables)
