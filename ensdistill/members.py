"""Many networks of one shape as one: a frozen view of them, and a one-member function lifted over all."""

from collections.abc import Callable
from typing import NamedTuple


class Members(NamedTuple):
  """A frozen network, teacher or student, at its running statistics: all that a perturbation sees.

  outputs(x, index_I=None) -> [B, I, O]; with an index only those members are computed.
  """

  size: int
  outputs: Callable
