"""A method: a point on the three axes, and how it is trained."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from ensdistill.objectives import Objective
from ensdistill.perturb import Perturbation, Space
from ensdistill.students import Student

if TYPE_CHECKING:
  import optax  # prediction does not need it


@dataclasses.dataclass(frozen=True)
class Method:
  """A point on the three axes, its optimiser and the weight of labels."""

  student: Student
  family: Any
  objective: Objective
  optimizer: optax.GradientTransformation
  steps: int
  space: Space
  perturbation: Perturbation | None = None
  label_weight: float = 0.0
  labels_on_clean: bool = True
  mix: Callable | None = None  # (key, batch) -> batch
  epoch: int = 0  # steps in an epoch
  microbatches: int = 1  # parts of a batch whose gradients are computed in turn
  select: str = 'last'  # the validation score that chooses the checkpoint, or 'last'
  view: str = 'student'  # which of the student's views is scored

  @property
  def needs_teacher(self) -> bool:
    """Whether a step uses the ensemble, or its stored outputs: not if labels alone are learnt."""
    return self.objective.loss is not None or self.perturbation is not None

  @property
  def labels_apart(self) -> bool:
    """Whether the labels' loss has a forward pass of its own, on inputs without perturbation."""
    return bool(self.perturbation and self.label_weight and self.labels_on_clean)

  def settled(self) -> int:
    """Return the steps after which the objective's schedule holds its last values.

    Only later checkpoints are candidates: EnD² ends at T = 1, and scores at the higher temperatures
    before belong to another loss.
    """
    values = self.objective.schedule(np.arange(self.steps + 1) / self.steps)
    values = [np.broadcast_to(value, self.steps + 1) for value in values.values()]
    changes = [int(np.flatnonzero(value != value[-1]).max(initial=-1)) + 1 for value in values]
    return max(changes, default=0)
