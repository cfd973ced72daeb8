"""The one loop: trains stacked networks to a number of steps, and survives being killed."""

import collections
import contextlib
import dataclasses
import functools
import itertools
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ensdistill import data, members, mesh
from ensdistill.logs import trace


class NonFinite(ArithmeticError):
  """A loss that is not finite, with its step and its terms."""


@dataclasses.dataclass(frozen=True)
class Loop:
  """How a stage runs; nothing here changes its numbers."""

  mesh: Any
  strategy: str
  writer: Any
  checkpoint_seconds: float = 30.0
  logs: int = 100  # lines of metrics a stage
  scores: int = 20  # validations a stage
  steps_per_call: int = 0  # 0: as many as fill a quarter of a second
  profile: int = 0  # steps to trace
  profile_folder: str = ''


class Logs(NamedTuple):
  """Sums of the logged terms since the last line, and the terms of the first non-finite step."""

  sums: dict
  bad: jax.Array  # its step, or -1
  bad_terms: dict


class Best(NamedTuple):
  """Each network's variables at its best validation score."""

  score: jax.Array
  step: jax.Array
  variables: Any


def fit(
  stage: str,
  step: Callable,
  states,
  shared: tuple,
  *,
  steps: int,
  batch: int,
  loop: Loop,
  checkpointer,
  score: Callable | None = None,
  score_shared: tuple | data.Blocks = (),
  select: str = 'last',
  select_from: int = 0,
):
  """Trains stacked networks [S, ...] to `steps` -> their variables, {'step', 'score'} of each.

  step(state, *shared) -> (state, logs) and score(variables, *score_shared) -> {name: scalar} see
  one network; both are lifted over all of them. The first of `shared` may be a data.Stream, whose
  batches take its place, and score_shared data.Blocks, which are scored one by one. `select` names
  the score whose best value decides which variables a network keeps ('nll' and 'rmse' are best when
  low), of those after `select_from` steps or more; 'last' keeps the last.
  Resumes from the newest good checkpoint; a stage that was finished returns at once.
  """
  lift = lambda function: mesh.over_members(members.lift(function, loop.strategy), loop.mesh)
  step = jax.jit(step)  # traced once, for its logs, for every member and for every number of steps
  advance = program(step, lift)
  scoring = _scoring(jax.jit(lift(score)), score_shared, loop.mesh) if score else None
  stream, shared = (shared[0], shared[1:]) if isinstance(shared[0], data.Stream) else (None, shared)
  shared = mesh.place(shared, mesh.replicated(loop.mesh))
  seen = (stream.shapes, *shared) if stream else shared
  states = mesh.place(states, mesh.by_member(loop.mesh))
  blank = mesh.place(blank_logs(lift(step), states, seen), mesh.by_member(loop.mesh))
  carry = {'states': states, 'logs': blank}
  if select != 'last':
    empty = lambda leaf: np.zeros(leaf.shape, leaf.dtype)  # no alias: donated
    empty = jax.tree.map(empty, (states.step, states.variables))
    carry['best'] = Best(np.full(len(states.step), -np.inf, np.float32), *empty)
  carry = mesh.place(carry, mesh.by_member(loop.mesh))

  sign = -1 if select in ('nll', 'rmse') else 1
  at, carry = checkpointer.restore(carry) or (0, carry)
  if at:
    going = f'goes on from step {at} of {steps}' if at < steps else 'finished before'
    loop.writer.line(f'{stage}: {going}')
  if at < steps:
    loop.writer.resume(stage, at)
  clock = _Clock(stage, at, steps, batch, len(states.step), loop)
  with clock, contextlib.closing(_batches(stream, at, loop.mesh)) as batches:
    while at < steps:
      clock.collect()
      count = clock.next_count(at)
      if stream:  # brings one batch after the other
        count = 1
      on_device = mesh.place(np.int32(count), mesh.replicated(loop.mesh))
      states, logs = advance(carry['states'], carry['logs'], on_device, *next(batches), *shared)
      at += count
      carry |= {'states': states, 'logs': logs}
      clock.dispatched(at, logs)
      if clock.is_log(at):
        carry['logs'] = blank
      if scoring and clock.is_score(at):
        scores = scoring(states.variables)
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


def _batches(stream, at: int, device_mesh):
  """What a step sees before what lies on the device for good: a stream's batch, or nothing."""
  if stream is None:
    yield from itertools.repeat(())
    return
  by_example, replicated = mesh.by_example(device_mesh), mesh.replicated(device_mesh)
  place = lambda batch: data.Batch(
    mesh.place(batch.arrays, by_example), mesh.place(batch.orders, replicated)
  )
  yield from ((batch,) for batch in data.ahead(stream.starting(at), place))


def _scoring(scores: Callable, shared, device_mesh) -> Callable:
  """stacked variables -> {name: [S]}, from all that is shared at once or block by block."""
  replicated = mesh.replicated(device_mesh)
  if not isinstance(shared, data.Blocks):
    placed = mesh.place(shared, replicated)
    return lambda variables: scores(variables, *placed)

  def over_blocks(variables):
    place = lambda block: (mesh.place(block[0], replicated), block[1])
    found = [
      (jax.device_get(scores(variables, *block)), size)
      for block, size in data.ahead(iter(shared), place)
    ]
    sizes = np.array([size for _, size in found], np.float32)
    mean = lambda *values: np.average(np.stack(values), axis=0, weights=sizes)
    means = jax.tree.map(mean, *[values for values, _ in found])
    return mesh.place(means, mesh.by_member(device_mesh))

  return over_blocks


def program(step: Callable, lift: Callable) -> Callable:
  """(states, logs, count, *shared) -> both after `count` steps of every network, compiled."""

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
  return jax.jit(
    lambda states, logs, count, *shared: lifted((states, logs), count, *shared), donate_argnums=0
  )


def blank_logs(lifted, states, shared) -> Logs:
  _, terms = jax.eval_shape(lifted, states, *shared)
  size = len(states.step)
  zeros = lambda: {name: np.zeros(size, np.float32) for name in terms}
  return Logs(zeros(), np.full(size, -1, np.int32), zeros())


@functools.partial(jax.jit, static_argnums=3)
def _keep_best(best: Best, states, score, sign) -> Best:
  score = sign * score
  better = (score > best.score) | ~jnp.isfinite(best.score)

  def choose(new, old):
    return jnp.where(better.reshape(-1, *[1] * (new.ndim - 1)), new, old)

  return jax.tree.map(choose, Best(score, states.step, states.variables), best)


class _Clock:
  """When to log, to validate and to save, how many steps to put into a call, and what was measured.

  Metrics are fetched one call late, so that the host never waits for a step it just sent off. On
  CPUs the previous call is waited for before the next: more than one in flight aborts collectives
  over several CPU devices.
  """

  def __init__(self, stage, at, steps, batch, size, loop: Loop):
    self.stage, self.loop, self.size, self.steps = stage, loop, size, steps
    points = lambda n: {round(steps * (i + 1) / min(n, steps)) for i in range(min(n, steps))}
    self.log_points, self.score_points = points(loop.logs), points(loop.scores)
    self.events = sorted(self.log_points | self.score_points)
    self.in_flight = 0 if jax.default_backend() == 'cpu' else 1
    self.pending = collections.deque()
    self.last_log = max((p for p in self.log_points if p <= at), default=0)
    self.seconds_per_step, self.calls = None, 0
    self.latest, self.saved_at = {}, time.monotonic()
    settle = functools.partial(self.collect, everything=True)
    say = lambda text: loop.writer.line(f'{stage}: {text}')
    self.trace = trace.Trace(loop.profile, loop.profile_folder, at, steps, settle, say)
    self.at, self.batch, self.last_count = at, batch, 0

  def __enter__(self):
    self.progress = self.loop.writer.progress(
      self.stage, self.steps, start=self.at, examples_per_step=self.batch * self.size
    )
    return self

  def __exit__(self, *error):
    try:
      if error[0] is None:
        self.collect(everything=True)
        self.trace.finish()
    finally:
      self.trace.abort()
      self.progress.close()

  def next_count(self, at: int) -> int:
    """Steps of the next call: up to the next event, and about a quarter of a second."""
    count = self.loop.steps_per_call or (20 if jax.process_count() > 1 else self._affordable())
    count = min(count, next(event for event in self.events if event > at) - at)
    return self.trace.limit(at, count, self.calls)

  def _affordable(self) -> int:
    if self.seconds_per_step is None:
      return 1
    return max(1, min(int(0.25 / self.seconds_per_step), 4 * self.last_count))

  def dispatched(self, at: int, logs: Logs) -> None:
    self.last_count, self.at = at - self.at, at
    self.pending.append(('steps', at, self.last_count, logs))

  def scored(self, at: int, scores) -> None:
    self.pending.append(('scores', at, 0, scores))

  def is_log(self, at):
    return at in self.log_points

  def is_score(self, at):
    return at in self.score_points

  def is_save(self) -> bool:
    """Every so many seconds, by the clock of the first process."""
    due = time.monotonic() - self.saved_at >= self.loop.checkpoint_seconds
    if jax.process_count() > 1:
      from jax.experimental import multihost_utils

      due = bool(multihost_utils.broadcast_one_to_all(np.asarray(due)))
    if due:
      self.saved_at = time.monotonic()
    return due

  def collect(self, everything: bool = False) -> None:
    """Fetches what was measured in all calls but the ones that may still be in flight."""
    calls = sum(kind == 'steps' for kind, *_ in self.pending)
    everything |= self.in_flight == 0
    while self.pending and (everything or calls > self.in_flight):
      kind, at, count, values = self.pending.popleft()
      if kind == 'steps':
        calls -= 1
        self._stop_at_non_finite(values)
        self._measure_time(count)
        if self.is_log(at):
          steps, self.last_log = at - self.last_log, at
          means = {
            name: float(np.mean(v)) / steps for name, v in jax.device_get(values.sums).items()
          }
          self._write(at, means)
      else:
        self._write(
          at, {f'valid_{n}': float(np.mean(v)) for n, v in jax.device_get(values).items()}
        )
      self.progress.update(at, self.latest)

  def _write(self, at, values):
    values = dict(sorted(values.items(), key=lambda item: item[0] != 'loss'))  # the loss leads
    self.latest |= values
    self.loop.writer.scalars(at, values, stage=self.stage)

  def _stop_at_non_finite(self, logs: Logs) -> None:
    bad = jax.device_get(logs.bad)
    if (bad < 0).all():
      return
    network = int(np.flatnonzero(bad >= 0)[0])
    terms = {name: float(value[network]) for name, value in jax.device_get(logs.bad_terms).items()}
    which = f' of network {network}' if self.size > 1 else ''
    shown = ', '.join(f'{name} {value:.4g}' for name, value in terms.items())
    raise NonFinite(
      f'{self.stage}: the loss{which} is not finite at step {int(bad[network])}: {shown}. Lower '
      'the learning rate (optimizer.rate) or clip its gradient (optimizer.clip)'
    )

  def _measure_time(self, steps: int) -> None:
    """Seconds a step, without the first call, which compiles."""
    now = time.monotonic()
    self.calls += 1
    if self.calls > 1:
      elapsed = max(now - self.collected_at, 1e-6) / steps
      self.seconds_per_step = 0.5 * (self.seconds_per_step or elapsed) + 0.5 * elapsed
    self.collected_at = now
