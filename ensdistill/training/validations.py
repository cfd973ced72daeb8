"""The setting `validate`: the epochs of a stage that end with a validation."""

from typing import NamedTuple


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
