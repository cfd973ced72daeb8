"""A trace of some steps of a stage, for TensorBoard or Perfetto."""

import contextlib
from collections.abc import Callable

import jax


class Trace:
  """So many steps after the first two calls, which compile, or the stage's last ones.

  settle() waits until nothing is in flight, so that the trace holds its steps whole and no others.
  """

  def __init__(
    self, steps: int, folder: str, start: int, end: int, settle: Callable, say: Callable
  ):
    self.steps, self.folder = min(steps, end - start), folder
    self.latest = end - self.steps  # when it has to begin
    self.settle, self.say = settle, say
    self.begun_at = None
    self.session = contextlib.ExitStack()

  def limit(self, at: int, count: int, calls: int) -> int:
    """Begins or ends before step `at`, with so many calls behind -> steps of the next one."""
    if not self.steps:
      return count
    if self.begun_at is None:
      if calls < 2 and at < self.latest:
        return min(count, self.latest - at)
      self.settle()
      self.session.enter_context(jax.profiler.trace(self.folder))
      self.begun_at = at
    left = self.begun_at + self.steps - at
    if left:
      return min(count, left)
    self.finish()
    return count

  def finish(self) -> None:
    """Writes what was traced, once."""
    if self.begun_at is None or not self.steps:
      return
    self.settle()
    self.session.close()
    self.say(
      f'traced {self.steps} steps from {self.begun_at} on: tensorboard --logdir={self.folder}'
    )
    self.steps = 0

  def abort(self) -> None:
    """Ends a trace that runs."""
    self.session.close()
