"""The one loop: trains stacked networks to a number of steps, and survives being killed."""

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ensdistill import members, mesh, runtime, stopping
from ensdistill.nets import cpu
from ensdistill.training import bad_steps, onednn
from ensdistill.training.clock import Clock, Logs, NonFinite
from ensdistill.training.feed import Feed
from ensdistill.training.step import TrainState, dropped_if_bad

LOWER_IS_BETTER = ('nll', 'rmse')  # of the scores that select a checkpoint


@dataclasses.dataclass(frozen=True)
class Loop:
  """How a stage runs; nothing here changes its numbers, except oneDNN: by rounding."""

  mesh: Any
  strategy: str
  writer: Any
  checkpoint_seconds: float = 30.0
  logs: int = 100  # lines of metrics per stage
  scores: int = 20  # validations per stage
  score_points: frozenset[int] | None = None  # the steps of the validations, instead of `scores`
  steps_per_call: int = 0  # 0: chosen to take a quarter of a second
  onednn: bool = False  # the steps call oneDNN, unless the stage began without
  profile: int = 0  # steps to trace
  profile_folder: str = ''
  on_nan: str = 'stop'  # one of bad_steps.ON_NAN
  folder: str = ''  # where a file describes a loss that is not finite; '': nowhere
  made_by: Mapping | None = None  # stored with every checkpoint

  def lift(self, function: Callable) -> Callable:
    """Return function(network, *shared) over stacked networks, spread over the devices."""
    return mesh.over_members(members.lift(function, self.strategy), self.mesh)

  def note(self, batch: int) -> str:
    """Return a description of the devices, and of oneDNN if the steps call it."""
    return mesh.note(self.mesh, batch) + ('; oneDNN' if self.onednn else '')


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
  sharding: tuple | None = None,
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
    sharding: of these arguments; None: every device has them.
    steps: where the stage ends.
    loop: how it runs.
    checkpointer: where states are saved.
    scoring: (variables, numbers) of stacked networks -> {name: [S]}.
    select: the score whose best value decides which variables a network keeps; 'last': the last.
    select_from: the first step that may be selected.
  """
  step = jax.jit(step)  # traced once, for its logs, for every member and for every number of steps
  skips = loop.on_nan == 'skip'
  by_member, replicated = mesh.by_member(loop.mesh), mesh.replicated(loop.mesh)
  shared = mesh.place(shared, sharding or replicated)
  words = mesh.fetch(jax.random.key_data(states.order))
  impl = jax.random.key_impl(states.order)
  states = mesh.place(states, by_member)
  seen = mesh.described(feed.shapes, replicated)
  blank = blank_logs(loop.lift(step), states, (seen, *shared), skips)
  blank = mesh.place(blank, by_member)
  carry: dict[str, Any] = {'states': states, 'logs': blank}
  if select != 'last':
    carry['best'] = mesh.place(_no_best(states), by_member)
  sign = -1 if select in LOWER_IS_BETTER else 1
  if loop.on_nan == 'rollback':
    carry['rollbacks'] = mesh.place(np.int32(0), replicated)
  found = checkpointer.restore(carry, bad_steps.OPTIONAL)
  if found is None and loop.on_nan == 'rollback':
    checkpointer.save(0, carry)  # before it, nothing to go back to
  at, carry = found or (0, carry)
  if at < steps:

    def say(text: str) -> None:
      loop.writer.line(f'{name}: {text}')

    checkpointer.facts |= onednn.settled(loop.onednn, at, checkpointer, say)
  calls_onednn = checkpointer.facts.get('onednn', False)
  advance = program(step, loop.lift, skips=skips, calls_onednn=calls_onednn)

  def train(at: int, carry: dict) -> dict:
    """Train from step `at` to the end; return what a checkpoint holds then."""
    saved = at
    clock = Clock(name, at, steps, feed, len(states.step), loop)
    with clock, contextlib.closing(feed.start(at, loop.mesh)) as source:
      while at < steps:
        clock.collect()
        if clock.decide(at).stop:
          if at > saved:
            clock.collect(everything=True)
            checkpointer.save(at, carry)
          stopping.check_together(f'{name} is saved at step {at} of {steps}')
        count = clock.next_count(at)
        on_device = mesh.place(np.int32(count), replicated)
        now, logs = advance(carry['states'], carry['logs'], on_device, next(source), *shared)
        at += count
        carry |= {'states': now, 'logs': logs}
        clock.dispatched(at, logs)
        if clock.is_log(at):
          carry['logs'] = blank
          if skips:  # a row of dropped updates goes on
            carry['logs'] = blank._replace(bad=logs.bad, bad_terms=logs.bad_terms)
        if scoring and clock.is_score(at):
          scores = scoring((now.variables, now.number))
          clock.scored(at, scores)
          if 'best' in carry and at >= select_from:
            carry['best'] = _keep_best(carry['best'], now, scores[select], sign)
        if at == steps or clock.is_save(at):
          clock.collect(everything=True)  # a non-finite state is never saved
          checkpointer.save(at, carry)
          saved = at
    return carry

  like = jax.tree.map(_shape, carry)  # the arrays themselves are donated
  if 'rollbacks' in like:
    like['rollbacks'] = mesh.place(np.int32(0), replicated)
  while True:
    words = mesh.fetch(jax.random.key_data(carry['states'].order))
    orders = jax.random.wrap_key_data(jnp.asarray(words), impl=impl)
    feed = feed.ordered(orders)
    try:
      carry = train(at, carry)
      break
    except NonFinite as error:
      carry.clear()  # what it holds is not needed beside what is restored
      back = checkpointer.restore(like, bad_steps.OPTIONAL)
      if 'rollbacks' in like and back and int(back[1]['rollbacks']) < bad_steps.ROLLBACKS:
        at, carry = bad_steps.other_order(back, error.networks, by_member)
        loop.writer.line(
          f'{name}: the loss is not finite at step {error.step}: rollback '
          f'{int(carry["rollbacks"])} of {bad_steps.ROLLBACKS}, to step {at}'
        )
        checkpointer.save(at, carry)  # so that a run that is killed now continues in this order
        continue
      bad_steps.describe(error, feed, orders, back, loop.folder)
      raise
  if select == 'last':
    return carry['states'].variables, {'step': mesh.fetch(carry['states'].step)}
  best = carry['best']
  step_S, score_S = mesh.fetch((best.step, best.score))
  return best.variables, {'step': step_S, select: sign * score_S}


def _shape(leaf):
  return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding)


def program(
  step: Callable, lift: Callable, *, skips: bool = False, calls_onednn: bool = False
) -> Callable:
  """Return the compiled (states, logs, count, *shared) -> both after `count` steps.

  If it `skips`, updates that are not finite are dropped and counted, up to SKIPS in a row.
  """
  options = runtime.ONEDNN if calls_onednn else None
  if calls_onednn:
    step = _for_onednn(step)

  def several(carry, count, *shared):
    def body(_, carry):
      state, logs = carry
      at = state.step
      before = state
      state, terms = step(state, *shared)
      finite = jnp.isfinite(terms['loss']) & jnp.isfinite(terms['grad_norm'])
      if skips:
        state, finite = dropped_if_bad(before, state, finite)
        return state, bad_steps.counted(logs, at, finite, terms)
      first = ~finite & (logs.bad < 0)
      logs = Logs(
        jax.tree.map(jnp.add, logs.sums, terms),
        jnp.where(first, at, logs.bad),
        jax.tree.map(lambda old, new: jnp.where(first, new, old), logs.bad_terms, terms),
      )
      return state, logs

    return jax.lax.fori_loop(0, count, body, carry)

  lifted = lift(several)

  @functools.partial(jax.jit, donate_argnums=0, compiler_options=options)
  def advance(states, logs, count, *shared):
    return lifted((states, logs), count, *shared)

  return runtime.uncached(advance) if calls_onednn else advance


def _for_onednn(step: Callable) -> Callable:
  """Return the step with convolutions in the forms that are fast with oneDNN, traced anew."""
  plain = getattr(step, '__wrapped__', step)  # a jitted one would reuse its trace

  @jax.jit
  def traced(*arguments):
    with cpu.for_onednn():
      return plain(*arguments)

  return traced


def blank_logs(lifted: Callable, states: TrainState, shared: tuple, skips: bool = False) -> Logs:
  """Return the logs of no step, in the form that a step of stacked networks adds to."""
  _, terms = jax.eval_shape(lifted, states, *shared)
  size = len(states.step)
  zeros = {name: np.zeros(size, np.float32) for name in terms}
  bad_terms = {name: zero.copy() for name, zero in zeros.items()}
  dropped = np.zeros(size, np.int32) if skips else None
  return Logs(zeros, np.full(size, -1, np.int32), bad_terms, dropped)


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
