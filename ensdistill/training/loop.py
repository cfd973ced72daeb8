"""The one loop: trains stacked networks to a number of steps, and survives being killed."""

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ensdistill import members, mesh
from ensdistill.training.clock import Clock, Logs
from ensdistill.training.feed import Feed
from ensdistill.training.step import TrainState

LOWER_IS_BETTER = ('nll', 'rmse')  # of the scores that select a checkpoint


@dataclasses.dataclass(frozen=True)
class Loop:
  """How a stage runs; nothing here changes its numbers."""

  mesh: Any
  strategy: str
  writer: Any
  checkpoint_seconds: float = 30.0
  logs: int = 100  # lines of metrics per stage
  scores: int = 20  # validations per stage
  score_points: frozenset[int] | None = None  # the steps of the validations, instead of `scores`
  steps_per_call: int = 0  # 0: chosen to take a quarter of a second
  profile: int = 0  # steps to trace
  profile_folder: str = ''
  made_by: Mapping | None = None  # stored with every checkpoint

  def lift(self, function: Callable) -> Callable:
    """Return function(network, *shared) over stacked networks, spread over the devices."""
    return mesh.over_members(members.lift(function, self.strategy), self.mesh)


class Best(NamedTuple):
  """Each network's variables at its best validation score."""

  score: jax.Array | np.ndarray
  step: jax.Array | np.ndarray
  variables: Any


def fit(
  name: str,
  step: Callable,
  states: TrainState,
  feed: Feed,
  shared: tuple = (),
  *,
  steps: int,
  loop: Loop,
  checkpointer,
  scoring: Callable | None = None,
  select: str = 'last',
  select_from: int = 0,
):
  """Train stacked networks [S, ...] to `steps`; return their variables and {'step', 'score'}.

  Resumes from the newest good checkpoint; a stage that was finished returns at once.

  Args:
    name: of the stage, in logs.
    step: step(state, seen, *shared) -> (state, logs) of one network; `seen` comes from the feed.
    states: the networks.
    feed: what each call sees.
    shared: further arguments of the step, the same for all calls.
    steps: where the stage ends.
    loop: how it runs.
    checkpointer: where states are saved.
    scoring: (variables, numbers) of stacked networks -> {name: [S]}.
    select: the score whose best value decides which variables a network keeps; 'last': the last.
    select_from: the first step that may be selected.
  """
  step = jax.jit(step)  # traced once, for its logs, for every member and for every number of steps
  advance = program(step, loop.lift)
  by_member, replicated = mesh.by_member(loop.mesh), mesh.replicated(loop.mesh)
  shared = mesh.place(shared, replicated)
  states = mesh.place(states, by_member)
  seen = mesh.described(feed.shapes, replicated)
  blank = mesh.place(blank_logs(loop.lift(step), states, (seen, *shared)), by_member)
  carry: dict[str, Any] = {'states': states, 'logs': blank}
  if select != 'last':
    carry['best'] = mesh.place(_no_best(states), by_member)
  sign = -1 if select in LOWER_IS_BETTER else 1
  at, carry = checkpointer.restore(carry) or (0, carry)
  clock = Clock(name, at, steps, feed, len(states.step), loop)
  with clock, contextlib.closing(feed.start(at, loop.mesh)) as source:
    while at < steps:
      clock.collect()
      count = clock.next_count(at)
      on_device = mesh.place(np.int32(count), replicated)
      states, logs = advance(carry['states'], carry['logs'], on_device, next(source), *shared)
      at += count
      carry |= {'states': states, 'logs': logs}
      clock.dispatched(at, logs)
      if clock.is_log(at):
        carry['logs'] = blank
      if scoring and clock.is_score(at):
        scores = scoring((states.variables, states.number))
        clock.scored(at, scores)
        if 'best' in carry and at >= select_from:
          carry['best'] = _keep_best(carry['best'], states, scores[select], sign)
      if at == steps or clock.is_save():
        clock.collect(everything=True)  # a non-finite state is never saved
        checkpointer.save(at, carry)
  if select == 'last':
    return carry['states'].variables, {'step': np.asarray(carry['states'].step)}
  best = carry['best']
  return best.variables, {'step': np.asarray(best.step), select: sign * np.asarray(best.score)}


def program(step: Callable, lift: Callable) -> Callable:
  """Return the compiled (states, logs, count, *shared) -> both after `count` steps."""

  def several(carry, count, *shared):
    def body(_, carry):
      state, logs = carry
      at = state.step
      state, terms = step(state, *shared)
      finite = jnp.isfinite(terms['loss']) & jnp.isfinite(terms['grad_norm'])
      first = ~finite & (logs.bad < 0)
      logs = Logs(
        jax.tree.map(jnp.add, logs.sums, terms),
        jnp.where(first, at, logs.bad),
        jax.tree.map(lambda old, new: jnp.where(first, new, old), logs.bad_terms, terms),
      )
      return state, logs

    return jax.lax.fori_loop(0, count, body, carry)

  lifted = lift(several)

  @functools.partial(jax.jit, donate_argnums=0)
  def advance(states, logs, count, *shared):
    return lifted((states, logs), count, *shared)

  return advance


def blank_logs(lifted: Callable, states: TrainState, shared: tuple) -> Logs:
  """Return the logs of no step, in the form that a step of stacked networks adds to."""
  _, terms = jax.eval_shape(lifted, states, *shared)
  size = len(states.step)
  zeros = {name: np.zeros(size, np.float32) for name in terms}
  return Logs(
    zeros, np.full(size, -1, np.int32), {name: zero.copy() for name, zero in zeros.items()}
  )


def _no_best(states: TrainState) -> Best:
  def empty(leaf):
    return np.zeros(leaf.shape, leaf.dtype)  # a copy: the states themselves are donated

  worst = np.full(len(states.step), -np.inf, np.float32)
  return Best(worst, *jax.tree.map(empty, (states.step, states.variables)))


@functools.partial(jax.jit, static_argnums=3)
def _keep_best(best: Best, states: TrainState, score, sign: int) -> Best:
  score = sign * score
  better = (score > best.score) | ~jnp.isfinite(best.score)

  def choose(new, old):
    return jnp.where(better.reshape(-1, *[1] * (new.ndim - 1)), new, old)

  return jax.tree.map(choose, Best(score, states.step, states.variables), best)
