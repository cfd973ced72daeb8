"""The loop's clock: when to log, validate and save, throughput, the stop at non-finite losses."""

import collections
import functools
import time
from typing import Any, NamedTuple

import jax
import numpy as np

from ensdistill import mesh, processes, stopping
from ensdistill.logs import trace

SKIPS = 10  # most updates in a row that on_nan='skip' drops
LONGEST = 3.0  # seconds of a call, so that a request to stop is soon seen


class NonFinite(ArithmeticError):
  """A loss that is not finite, with its stage, step and terms."""

  def __init__(self, message: str, *, stage='', network=0, step=0, terms=None, networks=()):
    super().__init__(message)
    self.stage, self.network, self.step, self.terms = stage, network, step, terms or {}
    self.networks = networks  # the numbers of all networks with such a loss


class Logs(NamedTuple):
  """Sums of the logged terms since the last line, and the terms of the first non-finite step."""

  sums: dict
  bad: jax.Array | np.ndarray  # its step, or -1; the first of those in a row where they are dropped
  bad_terms: dict
  dropped: Any = None  # updates that were dropped since the last line; None: none ever is


class Decision(NamedTuple):
  """What the first process decides for all, by its own clock."""

  stop: bool  # now
  until: int  # the step before which nothing is decided again
  save: bool  # at that step


class Clock:
  """Decide when a stage logs, validates and saves, and report what was measured.

  Metrics are fetched one call late, so that the host never waits for a step that it has just sent
  off. On CPUs each call is waited for before the next: more than one in flight aborts collectives
  over several CPU devices.
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
    """Return what to do from step `at` on; processes that share the run do the same."""
    if at >= self.decision.until:
      self.decision = Decision(*processes.agreed(lambda: self._decide(at), f'{self.stage} {at}'))
    return self.decision

  def _decide(self, at: int) -> Decision:
    save = time.monotonic() - self.saved_at >= self.loop.checkpoint_seconds
    return Decision(stopping.asked() != 0, at + self._wanted(at), save)

  def _wanted(self, at: int) -> int:
    """Return the steps up to the next event, but for about a quarter of a second."""
    count = self.loop.steps_per_call or self._affordable()
    if self.loop.steps_per_call:
      seconds = self.seconds_per_step
      count = min(count, max(1, int(LONGEST / seconds)) if seconds else 1)
    return min(count, next(event for event in self.events if event > at) - at)

  def next_count(self, at: int) -> int:
    """Return the steps of the next call."""
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
    """Fetch what finished calls measured; the calls that may still be in flight stay."""
    calls = sum(kind == 'steps' for kind, *_ in self.pending)
    everything |= self.in_flight == 0
    while self.pending and (everything or calls > self.in_flight):
      kind, at, count, values = self.pending.popleft()
      if kind == 'steps':
        calls -= 1
        self._stop_at_non_finite(at, values)
        self._measure_time(count)
        if self.is_log(at):
          steps, self.last_log = at - self.last_log, at
          self._write(at, self._means(values, steps))
      else:
        scores = mesh.fetch(values)
        self._write(at, {f'valid_{name}': float(np.mean(v)) for name, v in scores.items()})
      self.progress.update(at, self.latest)

  def _write(self, at: int, values: dict[str, float]) -> None:
    values = dict(sorted(values.items(), key=lambda item: item[0] != 'loss'))  # the loss leads
    self.latest |= values
    self.loop.writer.scalars(at, values, stage=self.stage)

  def _means(self, logs: Logs, steps: int) -> dict[str, float]:
    """Return the means of the terms over the last `steps` steps, except the dropped ones."""
    sums, dropped = mesh.fetch((logs.sums, logs.dropped))
    if dropped is None or not dropped.any():
      means = {name: float(np.mean(v)) / steps for name, v in sums.items()}
      return means if dropped is None else means | {'dropped': 0}
    self.say(f'{dropped.sum()} update(s) dropped, whose loss was not finite')
    counted = steps - dropped
    some = counted > 0
    means = {
      name: float(np.mean(v[some] / counted[some])) if some.any() else float('nan')
      for name, v in sums.items()
    }
    return means | {'dropped': int(dropped.sum())}

  def _stop_at_non_finite(self, at: int, logs: Logs) -> None:
    bad = mesh.fetch(logs.bad)
    worst = (bad >= 0) & (at - bad > (SKIPS if logs.dropped is not None else 0))
    if not worst.any():
      return
    networks = np.flatnonzero(worst).tolist()
    network, step = networks[0], int(bad[networks[0]])
    terms = {name: float(value[network]) for name, value in mesh.fetch(logs.bad_terms).items()}
    which = f' of network {network}' if self.size > 1 else ''
    shown = ', '.join(f'{name} {value:.4g}' for name, value in terms.items())
    since = '' if logs.dropped is None else f' and in the {SKIPS} steps after it'
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


class Validate(NamedTuple):
  """The epochs with a validation: the first, every n-th, every one of the last share of a stage."""

  first: bool = False
  every: int = 0
  tail: float = 0.0


def parse_validate(text: str) -> Validate:
  """Return what 'first,every=20,tail=0.1' says; any of the three may be left out."""
  found = Validate()
  for part in text.split(','):
    name, _, value = (word.strip() for word in part.partition('='))
    try:
      if name == 'first' and not value:
        found = found._replace(first=True)
      elif name == 'every' and int(value) > 0:
        found = found._replace(every=int(value))
      elif name == 'tail' and 0 <= float(value) <= 1:
        found = found._replace(tail=float(value))
      else:
        raise ValueError
    except ValueError:
      raise ValueError(
        f"validate={text!r}: {part!r} is none of 'first', 'every=N' (N epochs) and 'tail=S' (a "
        "share of the epochs, 0 to 1): set, for example, validate='first,every=20,tail=0.1'"
      ) from None
  return found


def validation_steps(text: str, steps: int, epoch: int) -> frozenset[int]:
  """Return the steps with a validation of a stage; `epoch` is the number of steps in an epoch.

  Validations lie at the ends of epochs. The last step of the stage always has one.
  """
  validate, epochs = parse_validate(text), -(-steps // epoch)

  def is_validated(number: int) -> bool:
    is_first = validate.first and number == 1
    is_regular = validate.every > 0 and number % validate.every == 0
    return (
      is_first
      or is_regular
      or (validate.tail > 0 and number >= (1 - validate.tail) * epochs - 1e-9)
    )

  ends = {min(number * epoch, steps) for number in range(1, epochs + 1) if is_validated(number)}
  return frozenset(ends | {steps})


def _spread(count: int, steps: int) -> set[int]:
  """Return `count` steps spread evenly over a stage, the last among them."""
  count = min(count, steps)
  return {round(steps * (i + 1) / count) for i in range(count)}
