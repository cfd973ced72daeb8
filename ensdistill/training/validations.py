"""The setting `validate`: the epochs of a stage that end with a validation."""

import contextlib
from typing import Any, NamedTuple


class Epochs(NamedTuple):
  """The epochs with a validation: the first, every n-th, and all in the last share of a stage."""

  first: bool = False
  every: int = 0
  tail: float = 0.0


def parse(text: str) -> Epochs:
  """Parse 'first,every=20,tail=0.1'; any of the three may be left out."""
  found = Epochs()
  for part in text.split(','):
    name, _, value = (word.strip() for word in part.partition('='))
    field = _field(name, value)
    if field is None:
      raise ValueError(
        f"validate={text!r}: {part!r} is none of 'first', 'every=N' (N epochs) and 'tail=S' (a "
        "share of the epochs, 0 to 1): set, for example, validate='first,every=20,tail=0.1'"
      )
    found = found._replace(**field)
  return found


def _field(name: str, value: str) -> dict[str, Any] | None:
  """Return a field of `Epochs` with its value; None if the name or the value is invalid."""
  with contextlib.suppress(ValueError):  # the value is not a number
    if name == 'first' and not value:
      return {'first': True}
    if name == 'every' and int(value) > 0:
      return {'every': int(value)}
    if name == 'tail' and 0 <= float(value) <= 1:
      return {'tail': float(value)}
  return None


def at_steps(text: str, steps: int, epoch: int) -> frozenset[int]:
  """Return the steps of a stage that are followed by a validation.

  Validations lie at the ends of epochs of `epoch` steps. The last step of the stage always has one.
  """
  wanted, epochs = parse(text), -(-steps // epoch)

  def is_validated(number: int) -> bool:
    is_first = wanted.first and number == 1
    is_regular = wanted.every > 0 and number % wanted.every == 0
    is_late = wanted.tail > 0 and number >= (1 - wanted.tail) * epochs - 1e-9
    return is_first or is_regular or is_late

  ends = {min(number * epoch, steps) for number in range(1, epochs + 1) if is_validated(number)}
  return frozenset(ends | {steps})
