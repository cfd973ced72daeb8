"""The device mesh and its shardings; no other module makes a mesh.

The mesh has two axes: 'data' splits a batch, and 'member' splits the networks that train together.
Batch sizes are global, so a run's numbers do not depend on the number of devices.
"""

import math
from collections.abc import Callable

import jax
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P


def make(members: int, batch: int, devices=None) -> Mesh:
  """Return a ('data', 'member') mesh whose axes divide the batch and the members evenly."""
  devices = jax.devices() if devices is None else devices
  member = math.gcd(len(devices), members)
  data = math.gcd(len(devices) // member, batch)
  return jax.make_mesh(
    (data, member),
    ('data', 'member'),
    axis_types=(AxisType.Auto, AxisType.Auto),
    devices=devices[: data * member],
  )


def note(mesh: Mesh, batch: int) -> str:
  """Return a description of the mesh, with the remedy if devices stay idle."""
  text = f'{mesh.size} device(s): {mesh.shape["data"]} x data, {mesh.shape["member"]} x members'
  if idle := jax.device_count() - mesh.size:
    text += f'; {idle} idle: they do not divide a global batch of {batch} (set batch_size)'
  return text


def block_size(examples: int, largest: int) -> int:
  """Return the block for a set that is predicted once: the next power of two, at most `largest`.

  So sets of 1 to N examples need 1 + log2(N) programs, and at most half of a block is padding.
  """
  return min(1 << (max(examples, 1) - 1).bit_length(), max(1, largest))


def replicated(mesh: Mesh) -> NamedSharding:
  """Return the sharding of arrays that every device holds."""
  return NamedSharding(mesh, P())


def by_member(mesh: Mesh) -> NamedSharding:
  """Return the sharding of arrays [member, ...]."""
  return NamedSharding(mesh, P('member'))


def by_example(mesh: Mesh) -> NamedSharding:
  """Return the sharding of arrays [order, example, ...]."""
  return NamedSharding(mesh, P(None, 'data'))


def place(tree, sharding: NamedSharding):
  """Return host or device arrays placed by a sharding; every process holds the same values."""
  return jax.device_put(tree, sharding)


def described(tree, sharding: NamedSharding):
  """Return shapes and types of the arrays as if they were placed, so that they trace alike."""

  def leaf(array):
    dtype = jax.dtypes.canonicalize_dtype(array.dtype, allow_extended_dtype=True)
    return jax.ShapeDtypeStruct(array.shape, dtype, sharding=sharding)

  return jax.tree.map(leaf, tree)


def split_batch(mesh: Mesh, tree):
  """Return the tree with the leading axis of every leaf constrained to the mesh's data axis."""
  if mesh.shape['data'] == 1:
    return tree
  return jax.lax.with_sharding_constraint(tree, NamedSharding(mesh, P('data')))


def over_members(function: Callable, mesh: Mesh) -> Callable:
  """Return function(stacked, *shared) with its members spread over the mesh's member axis.

  Members need no communication, so shard_map runs each device's members there. The compiler splits
  the data axis, and sums gradients and batch statistics over the global batch. A mesh of one among
  several devices uses shard_map as well, which tells layers that they run on one device.
  """
  if mesh.shape['member'] == 1 and (mesh.shape['data'] > 1 or jax.device_count() == 1):
    return function

  def spread(stacked, *shared):
    return jax.shard_map(
      function,
      mesh=mesh,
      in_specs=(P('member'), *[P()] * len(shared)),
      out_specs=P('member'),
      axis_names={'member'},
      check_vma=False,
    )(stacked, *shared)

  return spread
