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
  by_member, replicated = mesh.by_member(loop.mesh), mesh.replicated(loop.mesh)
  shared = mesh.place(shared, sharding or replicated)
  states = mesh.place(states, by_member)
  seen = mesh.described(feed.shapes, replicated)
  skips = loop.on_nan == 'skip'
  blank = mesh.place(blank_logs(loop.lift(step), states, (seen, *shared), skips), by_member)
  carry: dict[str, Any] = {'states': states, 'logs': blank}
  if select != 'last':
    carry['best'] = mesh.place(_no_best(states), by_member)
  if loop.on_nan == 'rollback':
    carry['rollbacks'] = mesh.place(np.int32(0), replicated)
  found = checkpointer.restore(carry, bad_steps.OPTIONAL)
  if found is None and loop.on_nan == 'rollback':
    checkpointer.save(0, carry)  # before it, nothing to go back to
  at, carry = found or (0, carry)
  fitting = Fitting(name, steps, loop, checkpointer, shared, blank, scoring, select, select_from)
  advance = fitting.compiled(step, at)
  like = jax.tree.map(_shape, carry)  # the arrays themselves are donated
  if 'rollbacks' in like:
    like['rollbacks'] = mesh.place(np.int32(0), replicated)
  while True:
    orders = _fetched_keys(carry['states'].order)
    try:
      fitting.train(advance, at, carry, feed.ordered(orders))
      break
    except NonFinite as error:
      carry.clear()  # what it holds is not needed beside what is restored
      back = checkpointer.restore(like, bad_steps.OPTIONAL)
      if not fitting.may_roll_back(back):
        bad_steps.describe(error, feed, orders, back, loop.folder)
        raise
      at, carry = fitting.rolled_back(back, error)
  if select == 'last':
    return carry['states'].variables, {'step': mesh.fetch(carry['states'].step)}
  best = carry['best']
  step_S, score_S = mesh.fetch((best.step, best.score))
  return best.variables, {'step': step_S, select: fitting.sign * score_S}


class Fitting(NamedTuple):
  """What `fit` holds fixed while the carry, what a checkpoint holds, goes from step to step.

  The carry is {'states', 'logs', 'best' if a score selects, 'rollbacks' if the loop rolls back}.
  """

  name: str
  steps: int
  loop: Loop
  checkpointer: Any
  shared: tuple
  blank: Logs
  scoring: Callable | None
  select: str
  select_from: int

  @property
  def sign(self) -> int:
    """Return the factor that makes a larger selecting score the better one."""
    return -1 if self.select in LOWER_IS_BETTER else 1

  def compiled(self, step: Callable, at: int) -> Callable:
    """Return the program of several steps, which calls oneDNN as the stage began, if it did."""
    facts = self.checkpointer.facts
    if at < self.steps:

      def say(text: str) -> None:
        self.loop.writer.line(f'{self.name}: {text}')

      facts |= onednn.settled(self.loop.onednn, at, self.checkpointer, say)
    return program(
      step,
      self.loop.lift,
      skips=self.loop.on_nan == 'skip',
      calls_onednn=facts.get('onednn', False),
    )

  def train(self, advance: Callable, at: int, carry: dict, feed: Feed) -> None:
    """Train from step `at` to the end, in place of what is in the carry."""
    saved = at
    clock = Clock(self.name, at, self.steps, feed, len(carry['states'].step), self.loop)
    with clock, contextlib.closing(feed.start(at, self.loop.mesh)) as source:
      while at < self.steps:
        clock.collect()
        if clock.decide(at).stop:
          if at > saved:
            clock.collect(everything=True)
            self.checkpointer.save(at, carry)
          stopping.check_together(f'{self.name} is saved at step {at} of {self.steps}')
        count = clock.next_count(at)
        on_device = mesh.place(np.int32(count), mesh.replicated(self.loop.mesh))
        carry['states'], carry['logs'] = advance(
          carry['states'], carry['logs'], on_device, next(source), *self.shared
        )
        at += count
        clock.dispatched(at, carry['logs'])
        if clock.is_log(at):
          carry['logs'] = self.next_logs(carry['logs'])
        if self.scoring and clock.is_score(at):
          self.score(clock, at, carry)
        if at == self.steps or clock.is_save(at):
          clock.collect(everything=True)  # a non-finite state is never saved
          self.checkpointer.save(at, carry)
          saved = at

  def next_logs(self, logs: Logs) -> Logs:
    """Return blank logs, in which a row of dropped updates goes on."""
    if self.loop.on_nan == 'skip':
      return self.blank._replace(bad=logs.bad, bad_terms=logs.bad_terms)
    return self.blank

  def score(self, clock: Clock, at: int, carry: dict) -> None:
    """Log the validation scores, and keep the networks that are the best so far."""
    states = carry['states']
    scores = self.scoring((states.variables, states.number))
    clock.scored(at, scores)
    if 'best' in carry and at >= self.select_from:
      carry['best'] = _keep_best(carry['best'], states, scores[self.select], self.sign)

  def may_roll_back(self, back: tuple[int, dict] | None) -> bool:
    """Return whether a bad step may go back to this checkpoint."""
    if back is None or self.loop.on_nan != 'rollback':
      return False
    return int(back[1]['rollbacks']) < bad_steps.ROLLBACKS

  def rolled_back(self, back: tuple[int, dict], error: NonFinite) -> tuple[int, dict]:
    """Return step and carry of the checkpoint, with another order of batches, saved."""
    at, carry = bad_steps.other_order(back, error.networks, mesh.by_member(self.loop.mesh))
    self.loop.writer.line(
      f'{self.name}: the loss is not finite at step {error.step}: rollback '
      f'{int(carry["rollbacks"])} of {bad_steps.ROLLBACKS}, to step {at}'
    )
    self.checkpointer.save(at, carry)  # so that a run that is killed now continues in this order
    return at, carry


def _fetched_keys(keys: jax.Array) -> jax.Array:
  """Return keys that are spread over devices as keys that this process has."""
  words = mesh.fetch(jax.random.key_data(keys))
  return jax.random.wrap_key_data(jnp.asarray(words), impl=jax.random.key_impl(keys))


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
