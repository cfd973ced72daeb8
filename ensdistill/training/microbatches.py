"""Microbatches: parts of a batch that are computed in turn, with the memory of one part."""

import jax
import jax.numpy as jnp

from ensdistill.members import Members


def split(x, parts: int):
  """Return [B, ...] as [parts, B / parts, ...]: the first part has the examples 0, parts, 2 parts.

  So every part has an equal share of the examples of each device, and nothing moves between them.
  """
  if x.shape[0] % parts:
    raise ValueError(
      f'{parts} microbatches do not divide a batch of {x.shape[0]}: set microbatches to a divisor'
    )
  return jnp.moveaxis(x.reshape(-1, parts, *x.shape[1:]), 1, 0)


def in_parts(network: Members, parts: int) -> Members:
  """Return the same members; their outputs, and gradients by inputs, are computed part by part.

  A gradient computes the outputs of each part a second time.
  """
  if parts == 1:
    return network

  def outputs(x, index=None):
    @jax.checkpoint
    def of_part(x):
      return network.outputs(x, index)

    each = jax.lax.map(of_part, split(x, parts))
    return jnp.moveaxis(each, 0, 1).reshape(-1, *each.shape[2:])

  return Members(network.size, outputs)
