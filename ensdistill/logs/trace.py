"""A trace of some steps of a stage, for TensorBoard or Perfetto."""

import contextlib
from collections.abc import Callable

import jax


class Trace:
  """A profiler trace of `steps` steps.

  The trace begins after the first two calls, which compile, or early enough to end with the stage.
  settle() waits until the device is idle, so that the trace holds exactly these steps.
  """

  def __init__(
    self, steps: int, folder: str, start: int, end: int, settle: Callable, say: Callable
  ):
    self.steps, self.folder = min(steps, end - start), folder
    self.latest = end - self.steps  # last step at which the trace can begin
    self.settle, self.say = settle, say
    self.begun_at: int | None = None
    self.session = contextlib.ExitStack()

  def limit(self, at: int, count: int, calls: int) -> int:
    """Begin or end the trace before step `at`, after `calls` calls; return the next call's steps.

    `count` is the number of steps that the next call would run without a trace.
    """
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
    """Write the trace, once."""
    if self.begun_at is None or not self.steps:
      return
    self.settle()
    self.session.close()
    self.say(
      f'traced {self.steps} steps from step {self.begun_at} on: tensorboard --logdir={self.folder}'
    )
    self.steps = 0

  def abort(self) -> None:
    """End a running trace."""
    self.session.close()
