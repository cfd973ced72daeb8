"""Several processes as one run: they agree on every decision, and end together.

The engine is jax.distributed. Its coordination service, in the first process, holds what processes
tell each other, as JSON under keys. A lone process joins nothing, and every function here is then
trivial. `joining` forms the group, `agreement` makes decisions in it, `watching` notices when one
of its processes dies, and `ending` ends all of them.
"""

from ensdistill.processes.agreement import (
  agreed,
  by_first,
  each,
  in_turn,
  locked,
  separately,
)
from ensdistill.processes.group import (
  alone,
  beat,
  cores,
  count,
  first,
  host,
  hosts,
  shared,
  usable_cores,
)

__all__ = [
  'agreed', 'alone', 'beat', 'by_first', 'cores', 'count', 'each', 'first', 'host', 'hosts',
  'in_turn', 'locked', 'separately', 'shared', 'usable_cores',
]  # fmt: skip
