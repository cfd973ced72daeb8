"""What bounds the memory and the time of the server; imports nothing, so `--help` is quick."""

import dataclasses

VALUES = 2_000_000  # most numbers that an answer is made from


@dataclasses.dataclass(frozen=True)
class Limits:
  """The settings of `ensdistill serve`, with their defaults."""

  max_batch: int = 128  # rows of one prediction
  max_wait_ms: float = 2.0  # that a request waits for others
  max_body_mb: float = 8.0  # of a request
  max_rows: int = 1024  # of a request
  timeout_s: float = 30.0  # for a request to arrive, and for its answer to be ready
  queue: int = 1024  # rows that wait, of one student; and requests that are read or written

  @property
  def max_body(self) -> int:
    """The bytes of a body."""
    return int(self.max_body_mb * 2**20)

  @property
  def held(self) -> int:
    """The bytes of all bodies that are in memory at a time."""
    return max(4 * self.max_body, 2**26)
