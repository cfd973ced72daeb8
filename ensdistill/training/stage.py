"""One training stage: a teacher's members, a phase of the students, or networks of many splits."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from ensdistill import mesh
from ensdistill.evaluation import inference
from ensdistill.method import Method
from ensdistill.storage import checkpoint
from ensdistill.training.feed import Feed, Validation
from ensdistill.training.loop import LoopSettings, fit
from ensdistill.training.step import TrainState, train_step


class Frozen(NamedTuple):
  """A trained ensemble as a training step sees it."""

  variables: Any  # an argument of the compiled program
  freeze: Callable  # (variables, state of the student) -> Members
  sharding: Any = None  # of the variables; None: every device has all of them


def train(
  *,
  name: str,
  method: Method,
  states: TrainState,
  feed: Feed,
  validation: Validation | None,
  loop: LoopSettings,
  folder,
  teacher: Frozen | None = None,
  settings: str = '',
):
  """Train stacked networks through one stage; return their variables, and {'step', 'score'}.

  Resumes from the checkpoints in `folder`; a finished stage returns at once. Checkpoints with
  another fingerprint `settings` are not used.
  """

  def step(state, seen, *frozen):
    batch = mesh.split_batch(loop.mesh, feed.draw(seen, state))
    ensemble = teacher.freeze(*frozen, state) if teacher else None
    return train_step(state, batch, ensemble, method)

  loop.writer.text('parameters of a network', parameter_overview(states.params), stage=name)
  own = {'log': loop.writer.line, 'made_by': loop.made_by, 'settings': settings}
  with checkpoint.Checkpointer(folder, **own) as checkpointer:
    return fit(
      name,
      step,
      states,
      feed,
      (teacher.variables,) if teacher else (),
      sharding=(teacher.sharding,) if teacher and teacher.sharding else None,
      steps=method.steps,
      loop=loop,
      checkpointer=checkpointer,
      scoring=_scoring(method, validation, loop) if validation else None,
      select=method.select,
      select_from=method.settled(),
    )


def parameter_overview(stacked) -> str:
  """Return the table of parameters of one of several stacked networks."""
  from clu import parameter_overview as clu_overview

  one = jax.tree.map(lambda leaf: np.asarray(leaf)[0], stacked)
  return clu_overview.get_parameter_overview(one)


def _scoring(method: Method, validation: Validation, loop: LoopSettings) -> Callable:
  """Return the function (variables, numbers) -> validation scores of stacked networks."""
  score_one = inference.scores(method, batch=validation.batch, device_mesh=loop.mesh)

  def score(network, seen):
    variables, number = network
    return score_one(variables, *validation.examples(seen, number))

  return validation.scorer(jax.jit(loop.lift(score)), loop.mesh)
