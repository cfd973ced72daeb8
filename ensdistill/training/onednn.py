"""oneDNN on x86 CPUs: whether the steps of a stage call it, and how a resumed stage keeps that.

A program that calls oneDNN is faster, but the compilation cache cannot store it: every start, and
every resumption, compiles it again. The choice is a function of the configuration and the stage's
total number of steps. It changes numbers by rounding, so it is stored with every checkpoint.
"""

from collections.abc import Callable

from ensdistill import names, runtime

CHOICES = ('auto', 'on', 'off')
SECONDS_PER_FLOP = 4e-12  # saved, per operation of a forward convolution: benchmarks/NOTES.md
COMPILATION = 15.0  # seconds of compiling a step, which a saving has to exceed


def check(choice: str | None) -> None:
  """Raise ValueError for an unknown choice, and for 'on' where programs cannot call oneDNN."""
  if choice is not None:
    names.check('onednn', choice, CHOICES)
  reason = runtime.lacks_onednn() if choice == 'on' else None
  if reason:
    raise ValueError(f"onednn='on' is not available: {reason}; set onednn='auto' or 'off'")


def chosen(choice: str | None, flops: float, steps: int) -> bool:
  """Return whether the steps of a new stage call oneDNN.

  Args:
    choice: 'on', 'off' or 'auto'; None is 'auto', which calls oneDNN if it should save more time
      over `steps` steps than a compilation takes.
    flops: of the convolutions of a step's forward passes, see `evaluation.cost.convolutions`.
    steps: of the whole stage.
  """
  if choice in ('on', 'off'):
    return choice == 'on'
  return flops * steps * SECONDS_PER_FLOP > COMPILATION and runtime.lacks_onednn() is None


def settled(wanted: bool, at: int, checkpointer, say: Callable[[str], None]) -> dict:
  """Return the oneDNN choice of the stage's start, which is stored with each checkpoint.

  A checkpoint without it was saved by a version without oneDNN. A stage that started with oneDNN
  continues without it where programs cannot call it.
  """
  began = checkpointer.facts.get('onednn', False) if at else wanted
  reason = runtime.lacks_onednn() if began else None
  if reason:
    say(
      f'began with oneDNN and continues without it, so its numbers change by rounding ({reason}); '
      f'to begin again, remove {checkpointer.folder}'
    )
  elif began != wanted:
    how = 'with' if began else 'without'
    say(
      f'continues {how} oneDNN, as it began, so that its numbers stay the same; to begin again, '
      f'remove {checkpointer.folder}'
    )
  return {'onednn': began and not reason}
