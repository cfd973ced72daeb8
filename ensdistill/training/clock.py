"""The loop's clock: when a stage logs, validates and saves, and when a bad loss stops it."""

import collections
import functools
import time
from typing import NamedTuple

import jax
import numpy as np

from ensdistill import mesh, processes, stopping
from ensdistill.logs import trace
from ensdistill.training.logs import SKIPS, Logs

LONGEST = 3.0  # seconds of a call, so that a request to stop is soon seen


class NonFinite(ArithmeticError):
  """A loss that is not finite, with its stage, step and terms."""

  def __init__(self, message: str, *, stage='', network=0, step=0, terms=None, networks=()):
    super().__init__(message)
    self.stage, self.network, self.step, self.terms = stage, network, step, terms or {}
    self.networks = networks  # the numbers of all networks with such a loss


class Decision(NamedTuple):
  """What to do next, decided by the first process for all."""

  stop: bool  # stop now
  until: int  # the step of the next decision
  save: bool  # save a checkpoint at that step


class Clock:
  """Decide when a stage logs, validates and saves, and report what was measured.

  Metrics are fetched one call late, so that the host never waits for the call that it has just sent
  off. On CPUs the host waits for each call: with several in flight, collectives over several CPU
  devices abort.
  """

  def __init__(self, stage: str, at: int, steps: int, feed, size: int, loop):
    self.stage, self.loop, self.size, self.steps = stage, loop, size, steps
    self.log_points = _spread(loop.logs, steps)
    self.score_points = loop.score_points or _spread(loop.scores, steps)
    self.events = sorted(self.log_points | self.score_points)
    self.in_flight = 0 if jax.default_backend() == 'cpu' else 1
    self.pending: collections.deque = collections.deque()
    self.last_log = max((point for point in self.log_points if point <= at), default=0)
    self.seconds_per_step: float | None = None
    self.calls, self.last_count = 0, 0
    self.decision = Decision(False, at, False)
    self.latest: dict[str, float] = {}
    self.saved_at = self.collected_at = time.monotonic()
    settle = functools.partial(self.collect, everything=True)
    self.trace = trace.Trace(loop.profile, loop.profile_folder, at, steps, settle, self.say)
    self.at, self.feed = at, feed

  def __enter__(self):
    if self.at:
      resumed = self.at < self.steps
      self.say(f'continues at step {self.at} of {self.steps}' if resumed else 'already finished')
    if self.at < self.steps:
      self.loop.writer.resume(self.stage, self.at)
    self.progress = self.loop.writer.progress(
      self.stage, self.steps, start=self.at, examples_per_step=self.feed.batch * self.size
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

  def say(self, text: str) -> None:
    self.loop.writer.line(f'{self.stage}: {text}')

  def decide(self, at: int) -> Decision:
    """Return what to do from step `at` on, the same in all processes of a run."""
    if at >= self.decision.until:
      self.decision = Decision(*processes.agreed(lambda: self._decide(at), f'{self.stage} {at}'))
    return self.decision

  def _decide(self, at: int) -> Decision:
    save = time.monotonic() - self.saved_at >= self.loop.checkpoint_seconds
    return Decision(stopping.asked() != 0, at + self._wanted(at), save)

  def _wanted(self, at: int) -> int:
    """Return the number of steps to the next event, at most those of a quarter of a second."""
    count = self.loop.steps_per_call or self._affordable()
    if self.loop.steps_per_call:
      seconds = self.seconds_per_step
      count = min(count, max(1, int(LONGEST / seconds)) if seconds else 1)
    return min(count, next(event for event in self.events if event > at) - at)

  def next_count(self, at: int) -> int:
    """Return the number of steps of the next call."""
    count = self.decision.until - at
    return min(self.trace.limit(at, count, self.calls), self.feed.steps_per_call or count)

  def _affordable(self) -> int:
    if self.seconds_per_step is None:
      return 1
    return max(1, min(int(0.25 / self.seconds_per_step), 4 * self.last_count))

  def dispatched(self, at: int, logs: Logs) -> None:
    """Note a call that was sent off."""
    self.last_count, self.at = at - self.at, at
    self.pending.append(('steps', at, self.last_count, logs))

  def scored(self, at: int, scores) -> None:
    """Note a validation that was sent off."""
    self.pending.append(('scores', at, 0, scores))

  def is_log(self, at: int) -> bool:
    return at in self.log_points

  def is_score(self, at: int) -> bool:
    return at in self.score_points

  def is_save(self, at: int) -> bool:
    """Return whether a checkpoint is due at step `at`."""
    due = self.decision.save and at >= self.decision.until
    if due:
      self.saved_at = time.monotonic()
    return due

  def collect(self, everything: bool = False) -> None:
    """Fetch and write the measurements of all calls but those that may still be in flight."""
    calls = sum(kind == 'steps' for kind, *_ in self.pending)
    everything |= self.in_flight == 0
    while self.pending and (everything or calls > self.in_flight):
      kind, at, count, values = self.pending.popleft()
      if kind == 'steps':
        calls -= 1
        self._stop_at_non_finite(at, values)
        self._measure_time(count)
        if self.is_log(at):
          self._log(at, values)
      else:
        scores = mesh.fetch(values)
        self._write(at, {f'valid_{name}': float(np.mean(v)) for name, v in scores.items()})
      self.progress.update(at, self.latest)

  def _log(self, at: int, logs: Logs) -> None:
    """Write the means since the last line, and say how many updates were dropped."""
    means = logs.means(at - self.last_log)
    if dropped := means.get('dropped'):
      self.say(f'{dropped} update(s) dropped, whose loss was not finite')
    self._write(at, means)
    self.last_log = at

  def _write(self, at: int, values: dict[str, float]) -> None:
    values = dict(sorted(values.items(), key=lambda item: item[0] != 'loss'))  # the loss leads
    self.latest |= values
    self.loop.writer.scalars(at, values, stage=self.stage)

  def _stop_at_non_finite(self, at: int, logs: Logs) -> None:
    networks = logs.failed(at)
    if not networks:
      return
    network = networks[0]
    step, terms = logs.first_bad(network)
    which = f' of network {network}' if self.size > 1 else ''
    shown = ', '.join(f'{name} {value:.4g}' for name, value in terms.items())
    since = f' and in the {SKIPS} steps after it' if logs.drops else ''
    raise NonFinite(
      f'{self.stage}: the loss{which} is not finite at step {step}{since}: {shown}. Lower '
      'the learning rate (optimizer.rate), clip the gradient (optimizer.clip), or set '
      "on_nan='skip' or 'rollback'",
      stage=self.stage,
      network=network,
      step=step,
      terms=terms,
      networks=networks,
    )

  def _measure_time(self, steps: int) -> None:
    """Update the seconds per step; the first call compiles and does not count."""
    now = time.monotonic()
    self.calls += 1
    if self.calls > 1:
      elapsed = max(now - self.collected_at, 1e-6) / steps
      self.seconds_per_step = 0.5 * (self.seconds_per_step or elapsed) + 0.5 * elapsed
    self.collected_at = now


def _spread(count: int, steps: int) -> set[int]:
  """Return `count` steps spread evenly over a stage, the last among them."""
  count = min(count, steps)
  return {round(steps * (i + 1) / count) for i in range(count)}
