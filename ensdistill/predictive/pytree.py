"""What the distributions share: the decorator, and a function that avoids cancellation."""

import dataclasses
import typing

import jax
import jax.numpy as jnp


@typing.dataclass_transform(frozen_default=True, eq_default=False)
def distribution(cls):
  """Make a class a frozen dataclass of arrays that passes through jit, vmap and tree.map."""
  return jax.tree_util.register_dataclass(dataclasses.dataclass(frozen=True, eq=False)(cls))


def gap(d):
  """Return exp(-d) + d - 1 >= 0, without cancellation near 0."""
  small = jnp.where(jnp.abs(d) < 0.3, d, 0)
  series = jnp.ones_like(small)
  for n in range(9, 2, -1):
    series = 1 - small / n * series
  return jnp.where(jnp.abs(d) < 0.3, small**2 / 2 * series, jnp.expm1(-d) + d)
