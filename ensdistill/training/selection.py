"""Which variables each network keeps: the last, or those at its best validation score."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ensdistill import mesh
from ensdistill.training.step import TrainState

LOWER_IS_BETTER = ('nll', 'rmse')  # of the scores that select variables


class Best(NamedTuple):
  """Each network's variables at its best validation score."""

  score: jax.Array | np.ndarray  # larger is better
  step: jax.Array | np.ndarray
  variables: Any


class Selection(NamedTuple):
  """How a stage scores its networks, and which score selects the variables that they keep."""

  scoring: Callable | None  # (variables, numbers) of stacked networks -> {name: [S]}
  select: str  # the name of the score; 'last': the last variables are kept
  select_from: int = 0  # the first step that may be selected

  @property
  def keeps_last(self) -> bool:
    """Whether networks keep their last variables."""
    return self.select == 'last'

  @property
  def sign(self) -> int:
    """The factor that makes a larger score the better one."""
    return -1 if self.select in LOWER_IS_BETTER else 1

  def blank(self, states: TrainState) -> Best | None:
    """Return the best of no validation; None if the last variables are kept."""
    if self.keeps_last:
      return None

    def empty(leaf):
      return np.zeros(leaf.shape, leaf.dtype)  # a copy: the states themselves are donated

    worst = np.full(len(states.step), -np.inf, np.float32)
    return Best(worst, *jax.tree.map(empty, (states.step, states.variables)))

  def better(self, best: Best | None, at: int, states: TrainState, scores: dict) -> Best | None:
    """Return the best so far, after a validation at step `at`."""
    if best is None or at < self.select_from:
      return best
    return _keep_best(best, states, scores[self.select], self.sign)

  def kept(self, best: Best | None, states: TrainState) -> tuple[Any, dict]:
    """Return the variables of a finished stage, and the step and score of each network."""
    if best is None:
      return states.variables, {'step': mesh.fetch(states.step)}
    step_S, score_S = mesh.fetch((best.step, best.score))
    return best.variables, {'step': step_S, self.select: self.sign * score_S}


@functools.partial(jax.jit, static_argnums=3)
def _keep_best(best: Best, states: TrainState, score, sign: int) -> Best:
  score = sign * score
  better = (score > best.score) | ~jnp.isfinite(best.score)

  def choose(new, old):
    return jnp.where(better.reshape(-1, *[1] * (new.ndim - 1)), new, old)

  return jax.tree.map(choose, Best(score, states.step, states.variables), best)
