"""Devices: the only place that makes a mesh, and the shardings that hang on it.

Two axes: 'data' splits a batch, 'member' splits the networks that train together. Batch sizes are
global, so the numbers of a run do not depend on how many devices ran it.
"""

import math
from collections.abc import Callable

import jax
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P


def make(members: int, batch: int, devices=None) -> Mesh:
  """A ('data', 'member') mesh over as many devices as divide the members and the batch evenly."""
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
  """What the mesh does, in a few words, with the remedy where devices stay idle."""
  idle = jax.device_count() - mesh.size
  text = f'{mesh.size} device(s): {mesh.shape["data"]} x data, {mesh.shape["member"]} x members'
  return text + (
    f'; {idle} idle: a global batch of {batch} does not split over them (set batch_size)'
    if idle
    else ''
  )


def replicated(mesh: Mesh) -> NamedSharding:
  return NamedSharding(mesh, P())


def by_member(mesh: Mesh) -> NamedSharding:
  return NamedSharding(mesh, P('member'))


def by_example(mesh: Mesh) -> NamedSharding:
  """Of arrays [order, example, ...]."""
  return NamedSharding(mesh, P(None, 'data'))


def place(tree, sharding: NamedSharding):
  """Host or device arrays -> arrays under a sharding (every process holds the same values)."""
  return jax.tree.map(lambda leaf: jax.device_put(leaf, sharding), tree)


def split_batch(mesh: Mesh, tree):
  """Constrains the leading axis of every leaf to the mesh's data axis."""
  if mesh.shape['data'] == 1:
    return tree
  sharding = NamedSharding(mesh, P('data'))
  return jax.tree.map(lambda leaf: jax.lax.with_sharding_constraint(leaf, sharding), tree)


def over_members(function: Callable, mesh: Mesh) -> Callable:
  """function(stacked, *shared) with the stacked members spread over the mesh's member axis.

  Members need no communication, so each device runs its own through shard_map; the data axis stays
  with the compiler, which also sums gradients and batch statistics over the global batch. One of
  several devices goes through shard_map as well: so layers know that they run on one.
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
