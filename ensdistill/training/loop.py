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
from ensdistill.training.clock import Clock, NonFinite
from ensdistill.training.feed import Feed
from ensdistill.training.logs import Logs
from ensdistill.training.selection import Best, Selection
from ensdistill.training.step import TrainState, dropped_if_bad


@dataclasses.dataclass(frozen=True)
class LoopSettings:
  """How a stage runs. Nothing here changes its numbers, except oneDNN, by rounding."""

  mesh: Any
  strategy: str
  writer: Any
  checkpoint_seconds: float = 30.0
  logs: int = 100  # lines of metrics per stage
  scores: int = 20  # validations per stage
  score_points: frozenset[int] | None = None  # steps with a validation, instead of `scores`
  steps_per_call: int = 0  # 0: chosen to take a quarter of a second
  onednn: bool = False  # the steps call oneDNN, unless the stage started without it
  profile: int = 0  # steps to trace
  profile_folder: str = ''
  on_nan: str = 'stop'  # one of bad_steps.ON_NAN
  folder: str = ''  # for a file that describes a loss that is not finite; '': no file
  made_by: Mapping | None = None  # stored with every checkpoint

  def lift(self, function: Callable) -> Callable:
    """Return function(network, *shared) over stacked networks, spread over the devices."""
    return mesh.over_members(members.lift(function, self.strategy), self.mesh)

  def note(self, batch: int, microbatches: int) -> str:
    """Return a description of the devices, and of oneDNN if the steps call it."""
    return mesh.note(self.mesh, batch, microbatches) + ('; oneDNN' if self.onednn else '')


class Carry(NamedTuple):
  """What passes from call to call, and what a checkpoint holds.

  Stored checkpoints have these names in this order.
  """

  best: Best | None  # None: the last variables are kept
  logs: Logs
  rollbacks: jax.Array | None  # so far; None: a bad step never goes back to a checkpoint
  states: TrainState


def fit(
  name: str,
  step: Callable,
  states: TrainState,
  feed: Feed,
  shared: tuple = (),
  *,
  sharding: tuple | None = None,
  steps: int,
  loop: LoopSettings,
  checkpointer,
  scoring: Callable | None = None,
  select: str = 'last',
  select_from: int = 0,
):
  """Train stacked networks [S, ...] to `steps`; return their variables and {'step', 'score'}.

  Resumes from the newest good checkpoint; a finished stage returns at once.

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
  shared = mesh.place(shared, sharding or mesh.replicated(loop.mesh))
  selection = Selection(scoring, select, select_from)
  trainer = Trainer(name, steps, feed, shared, loop, checkpointer, selection)
  trainer.start(step, states)
  trainer.resume()
  advance = trainer.compiled(step)
  while True:
    try:
      trainer.train(advance)
      break
    except NonFinite as error:
      if not trainer.rolled_back(error):
        raise
  return selection.kept(trainer.carry.best, trainer.carry.states)


@dataclasses.dataclass
class Trainer:
  """Trains the networks of one stage, from step `at` on.

  Training changes `at` and the carry; everything else is fixed.
  """

  name: str
  steps: int
  feed: Feed
  shared: tuple
  loop: LoopSettings
  checkpointer: Any
  selection: Selection
  at: int = 0
  carry: Carry = dataclasses.field(init=False)
  blank: Logs = dataclasses.field(init=False)  # empty logs
  like: Carry = dataclasses.field(init=False)  # shapes and places of the carry's arrays

  def start(self, step: Callable, states: TrainState) -> None:
    """Place fresh networks, with empty logs and no best variables."""
    loop = self.loop
    by_member, replicated = mesh.by_member(loop.mesh), mesh.replicated(loop.mesh)
    states = mesh.place(states, by_member)
    seen = mesh.described(self.feed.shapes, replicated)
    blank = Logs.blank(loop.lift(step), states, (seen, *self.shared), loop.on_nan == 'skip')
    self.blank = mesh.place(blank, by_member)
    best = mesh.place(self.selection.blank(states), by_member)
    rollbacks = mesh.place(np.int32(0), replicated) if loop.on_nan == 'rollback' else None
    self.carry = Carry(best, self.blank, rollbacks, states)
    # The arrays themselves are donated; `rollbacks` is absent from older checkpoints.
    self.like = jax.tree.map(_shape, self.carry)._replace(rollbacks=rollbacks)

  def resume(self) -> None:
    """Continue from the newest good checkpoint, if there is one, with the stage's oneDNN choice."""
    found = self.checkpointer.restore(self.carry, bad_steps.OPTIONAL)
    if found:
      self.at, self.carry = found
    if self.at < self.steps:
      started = onednn.settled(self.loop.onednn, self.at, self.checkpointer, self.say)
      self.checkpointer.facts |= started
    if not found and self.loop.on_nan == 'rollback':
      self.save()  # without it, there is nothing to go back to

  def compiled(self, step: Callable) -> Callable:
    """Return the compiled program for several steps.

    It calls oneDNN if the stage started with oneDNN.
    """
    calls_onednn = self.checkpointer.facts.get('onednn', False)
    return program(step, self.loop.lift, calls_onednn=calls_onednn)

  def train(self, advance: Callable) -> None:
    """Train from step `at` to the last step; update the carry."""
    saved = self.at
    feed = self.feed.ordered(self.orders())
    clock = Clock(self.name, self.at, self.steps, feed, len(self.carry.states.step), self.loop)
    with clock, contextlib.closing(feed.start(self.at, self.loop.mesh)) as source:
      while self.at < self.steps:
        clock.collect()
        if clock.decide(self.at).stop:
          if self.at > saved:
            clock.collect(everything=True)
            self.save()
          stopping.check_together(f'{self.name} is saved at step {self.at} of {self.steps}')
        self.call(advance, clock.next_count(self.at), next(source))
        clock.dispatched(self.at, self.carry.logs)
        if clock.is_log(self.at):
          self.carry = self.carry._replace(logs=self.carry.logs.emptied(self.blank))
        if clock.is_score(self.at):
          self.score(clock)
        if self.at == self.steps or clock.is_save(self.at):
          clock.collect(everything=True)  # a non-finite state is never saved
          self.save()
          saved = self.at

  def call(self, advance: Callable, count: int, seen) -> None:
    """Send off one call of `count` steps."""
    on_device = mesh.place(np.int32(count), mesh.replicated(self.loop.mesh))
    states, logs = advance(self.carry.states, self.carry.logs, on_device, seen, *self.shared)
    self.carry = self.carry._replace(states=states, logs=logs)
    self.at += count

  def score(self, clock: Clock) -> None:
    """Score the networks, and keep the variables of those that are the best so far."""
    if self.selection.scoring is None:
      return
    states = self.carry.states
    scores = self.selection.scoring((states.variables, states.number))
    clock.scored(self.at, scores)
    best = self.selection.better(self.carry.best, self.at, states, scores)
    self.carry = self.carry._replace(best=best)

  def save(self) -> None:
    self.checkpointer.save(self.at, self.carry)

  def say(self, text: str) -> None:
    self.loop.writer.line(f'{self.name}: {text}')

  def orders(self) -> jax.Array:
    """Return the networks' orders as keys that this process has."""
    keys = self.carry.states.order
    words = mesh.fetch(jax.random.key_data(keys))
    return jax.random.wrap_key_data(jnp.asarray(words), impl=jax.random.key_impl(keys))

  def rolled_back(self, error: NonFinite) -> bool:
    """Return to the newest checkpoint, with another order of batches; False if that is refused.

    A file then describes the error.
    """
    orders = self.orders()
    del self.carry  # its arrays are not needed beside those that are restored
    back = self.checkpointer.restore(self.like, bad_steps.OPTIONAL)
    done = back[1].rollbacks if back else None  # None as well where on_nan is not 'rollback'
    if done is None or int(done) >= bad_steps.ROLLBACKS:
      bad_steps.describe(error, self.feed, orders, back and back[0], self.loop.folder)
      return False
    self.at, carry = back
    rollbacks = done + 1
    by_member = mesh.by_member(self.loop.mesh)
    states = bad_steps.other_order(carry.states, error.networks, int(rollbacks), by_member)
    self.carry = carry._replace(states=states, rollbacks=rollbacks)
    self.say(
      f'the loss is not finite at step {error.step}: rollback {int(rollbacks)} of '
      f'{bad_steps.ROLLBACKS}, to step {self.at}'
    )
    self.save()  # so that a run that is killed now continues in this order
    return True


def _shape(leaf):
  return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding)


def program(step: Callable, lift: Callable, *, calls_onednn: bool = False) -> Callable:
  """Return the compiled (states, logs, count, *shared) -> (states, logs) after `count` steps.

  If the logs count dropped updates, updates that are not finite are dropped.
  """
  options = runtime.ONEDNN if calls_onednn else None
  if calls_onednn:
    step = _for_onednn(step)

  def several(carry, count, *shared):
    def body(_, carry):
      before, logs = carry
      state, terms = step(before, *shared)
      finite = jnp.isfinite(terms['loss']) & jnp.isfinite(terms['grad_norm'])
      if logs.drops:
        state, finite = dropped_if_bad(before, state, finite)
      return state, logs.add(before.step, finite, terms)

    return jax.lax.fori_loop(0, count, body, carry)

  lifted = lift(several)

  @functools.partial(jax.jit, donate_argnums=0, compiler_options=options)
  def advance(states, logs, count, *shared):
    return lifted((states, logs), count, *shared)

  return runtime.uncached(advance) if calls_onednn else advance


def _for_onednn(step: Callable) -> Callable:
  """Return the step, traced again with convolutions in the forms that are fast with oneDNN."""
  plain = getattr(step, '__wrapped__', step)  # a jitted step would reuse its trace

  @jax.jit
  def traced(*arguments):
    with cpu.for_onednn():
      return plain(*arguments)

  return traced
