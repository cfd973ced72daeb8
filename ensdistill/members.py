"""Networks of one shape, stacked: a frozen view of them, and functions lifted over members."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from ensdistill import names

STRATEGIES = ('vmap', 'unroll', 'loop')
CHUNK = 50  # members per vmap on a CPU: larger chunks do not fit into the caches


class Members(NamedTuple):
  """A frozen teacher or student at its running statistics, as perturbations see it.

  outputs(x, index_I=None) -> [B, I, O]. An index selects the members to compute.
  """

  size: int
  outputs: Callable


def default_strategy(convolutional: bool) -> str:
  """Return the fastest strategy on this back end, as benchmarks/members.py measures it.

  A vmapped convolution becomes a grouped one, which is slow on CPUs. There members run in a loop,
  as fast as unrolled code and compiled in a fraction of the time. Small dense layers are faster
  under vmap everywhere.
  """
  return 'loop' if convolutional and jax.default_backend() == 'cpu' else 'vmap'


def lift(function: Callable, strategy: str = 'vmap') -> Callable:
  """Return `function(member, *shared)` lifted to lifted(stacked members, *shared)."""
  if strategy not in STRATEGIES:
    raise names.unknown('member strategy', strategy, STRATEGIES)

  def lifted(stacked, *shared):
    size = jax.tree.leaves(stacked)[0].shape[0]

    def one(member):
      return function(member, *shared)

    if strategy == 'unroll' or size == 1:
      return stack([one(take(stacked, i)) for i in range(size)])
    if strategy == 'loop':
      return jax.lax.map(one, stacked)
    if jax.default_backend() == 'cpu' and size > CHUNK:
      return jax.lax.map(one, stacked, batch_size=CHUNK)
    return jax.vmap(one)(stacked)

  return lifted


def take(stacked, index):
  """Return one member of a stacked tree, or several members for an array of indices."""
  return jax.tree.map(lambda leaf: leaf[index], stacked)


def stack(trees):
  """Return the members' trees as one tree with a leading member axis."""
  return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


def frozen(apply: Callable, stacked, strategy: str = 'vmap') -> Members:
  """Return stacked single networks as frozen members; apply(variables, x) -> outputs [B, 1, O]."""

  def one(variables, x):
    return apply(variables, x)[:, 0]

  def outputs(x, index=None):
    chosen = stacked if index is None else take(stacked, index)
    each_IBO = lift(one, strategy)(chosen, x)
    return jnp.moveaxis(each_IBO, 0, 1)

  return Members(jax.tree.leaves(stacked)[0].shape[0], outputs)
