"""Any number of examples for a program of a fixed batch."""

from collections.abc import Callable

import numpy as np


def in_blocks(call: Callable, x: np.ndarray, batch: int) -> dict[str, np.ndarray]:
  """Return the outputs {name: array} of a program for batches of one size.

  The last block is padded with copies of its last example.
  """
  if len(x) == batch:
    return {name: np.asarray(a) for name, a in call(x).items()}
  found = []
  for start in range(0, len(x), batch):
    block = x[start : start + batch]
    rows = np.minimum(np.arange(batch), len(block) - 1)
    found.append({name: np.asarray(a)[: len(block)] for name, a in call(block[rows]).items()})
  return {name: np.concatenate([block[name] for block in found]) for name in found[0]}
