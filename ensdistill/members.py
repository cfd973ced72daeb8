"""Many networks of one shape: a frozen view of them, a one-member function lifted over all."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from ensdistill import names

STRATEGIES = ('vmap', 'unroll', 'loop')
CHUNK = 50  # members under one vmap on a CPU: wider ones leave the caches


class Members(NamedTuple):
  """A frozen network, teacher or student, at its running statistics: all that a perturbation sees.

  outputs(x, index_I=None) -> [B, I, O]; with an index only those members are computed.
  """

  size: int
  outputs: Callable


def default_strategy(convolutional: bool) -> str:
  """The strategy that was fastest on this back end (benchmarks/members.py prints the table).

  A vmapped convolution is a grouped one, which CPUs run slowly: there members take turns, at the
  same cost a member as unrolled code and a fraction of its compile time. Small dense layers gain
  from running side by side everywhere.
  """
  return 'loop' if convolutional and jax.default_backend() == 'cpu' else 'vmap'


def lift(function: Callable, strategy: str = 'vmap') -> Callable:
  """function(member, *shared) -> lifted(stacked members, *shared): leaves gain a leading axis."""
  if strategy not in STRATEGIES:
    raise names.unknown('member strategy', strategy, STRATEGIES)

  def lifted(stacked, *shared):
    size = jax.tree.leaves(stacked)[0].shape[0]
    one = lambda member: function(member, *shared)
    if strategy == 'unroll' or size == 1:
      return stack([one(take(stacked, i)) for i in range(size)])
    if strategy == 'loop':
      return jax.lax.map(one, stacked)
    if jax.default_backend() == 'cpu' and size > CHUNK:
      return jax.lax.map(one, stacked, batch_size=CHUNK)
    return jax.vmap(one)(stacked)

  return lifted


def take(stacked, index):
  """One member of a stacked tree, or (with an index array) some of them."""
  return jax.tree.map(lambda leaf: leaf[index], stacked)


def stack(trees):
  """The trees of several members as one with a leading member axis."""
  return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


def frozen(apply: Callable, stacked, strategy: str = 'vmap') -> Members:
  """Stacked single networks as frozen members; apply(variables, x) -> outputs [B, 1, O]."""

  def outputs(x, index=None):
    chosen = stacked if index is None else take(stacked, index)
    each_IBO = lift(lambda variables, x: apply(variables, x)[:, 0], strategy)(chosen, x)
    return jnp.moveaxis(each_IBO, 0, 1)

  return Members(jax.tree.leaves(stacked)[0].shape[0], outputs)
