"""Subsets of an ensemble's members: the rows of smaller ensembles are averages over them."""

import itertools
import math

import jax
import numpy as np

MOST = 30  # subsets of one size
TOTAL = 400  # subsets of all sizes together; large ensembles have fewer of each size
FEW = 5  # subsets of one size for what is slow: shifted sets and training inputs


def most(members: int) -> int:
  """Return how many subsets of one size are measured, in an ensemble of this many members."""
  return max(FEW, min(MOST, TOTAL // max(members - 2, 1)))


def of_size(members: int, size: int) -> list[tuple[int, ...]]:
  """Return subsets of members: all of this size, or a seeded sample, in random order.

  The order is random so that the first few are a sample, too.
  """
  random, limit = np.random.default_rng([members, size]), most(members)
  if math.comb(members, size) <= limit:
    every = list(itertools.combinations(range(members), size))
    return [every[i] for i in random.permutation(len(every))]
  found: dict[tuple[int, ...], None] = {}
  while len(found) < limit:
    found[tuple(sorted(random.permutation(members)[:size].tolist()))] = None
  return list(found)


def part(predictive, index: tuple[int, ...] | slice):
  """Return the predictive distribution of these members of an ensemble."""
  chosen = index if isinstance(index, slice) else list(index)
  return jax.tree.map(lambda leaf: leaf[:, chosen], predictive)
