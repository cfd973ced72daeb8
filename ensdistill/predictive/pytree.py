"""What the distributions share: being a pytree, and one function that must not cancel."""

import dataclasses

import jax
import jax.numpy as jnp


def distribution(cls):
  """A frozen dataclass of arrays that passes through jit, vmap and tree.map."""
  return jax.tree_util.register_dataclass(dataclasses.dataclass(frozen=True, eq=False)(cls))


def gap(d):
  """exp(-d) + d - 1 >= 0, without cancellation near 0."""
  small = jnp.where(jnp.abs(d) < 0.3, d, 0)
  series = jnp.ones_like(small)
  for n in range(9, 2, -1):
    series = 1 - small / n * series
  return jnp.where(jnp.abs(d) < 0.3, small**2 / 2 * series, jnp.expm1(-d) + d)
