"""The device mesh and its shardings; no other module makes a mesh, or moves arrays over it.

The mesh has two axes: 'member' splits the networks that train together, and 'data' splits a batch.
Members need no communication, so theirs is the outer axis: the devices that sum a gradient then lie
on few hosts. Batch sizes are global, so a run's numbers do not depend on the number of devices.

The devices may belong to several processes. Every process holds the same host arrays, or its own
rows of them, and calls `place` and `fetch` in the same order.
"""

import math
from collections.abc import Callable

import jax
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from ensdistill import processes

FEW = 8  # examples a device below which communication takes longer than computation


def make(members: int, batch: int, devices=None) -> Mesh:
  """Return a ('member', 'data') mesh whose axes divide the members and the batch evenly.

  A run that several processes share uses all of their devices; raise ValueError if it cannot.
  """
  every = devices is None and processes.shared() and not processes.alone()
  devices = _all() if devices is None else devices
  member = math.gcd(len(devices), members)
  data = math.gcd(len(devices) // member, batch)
  if every and (idle := len(devices) - member * data):
    fits = ' or '.join(map(str, fitting(batch, len(devices) // member)))
    raise ValueError(
      f'a batch of {batch} and {members} network(s) leave {idle} of {len(devices)} devices idle, '
      f'and {processes.count()} processes need all of theirs: set batch_size to {fits}'
    )
  names, types = ('member', 'data'), (AxisType.Auto, AxisType.Auto)
  devices = devices[: data * member]
  try:
    return jax.make_mesh((member, data), names, axis_types=types, devices=devices)
  except NotImplementedError:  # one axis of a slice of TPUs has to hold parts of both
    arranged = mesh_utils.create_device_mesh(
      (member, data), devices, allow_split_physical_axes=True
    )
    return Mesh(arranged, names, axis_types=types)


def _all():
  """Return the devices of the run; those of this process, where it works alone."""
  return jax.local_devices() if processes.alone() else jax.devices()


def fitting(batch: int, parts: int) -> list[int]:
  """Return the batch sizes nearest to one that `parts` devices divide: below and above."""
  below = batch // parts * parts
  return [size for size in (below, below + parts) if size]


def rounded(batch: int) -> int:
  """Return the smallest number of rows from `batch` on that all devices divide."""
  return -(-batch // len(_all())) * len(_all())


def note(mesh: Mesh, batch: int, microbatches: int = 1) -> str:
  """Return a description of the mesh, with a remedy if devices stay idle or have little to do.

  batch: the global batch of a step, which is computed in `microbatches` parts.
  """
  data, members = mesh.shape['data'], mesh.shape['member']
  text = f'{mesh.size} device(s): {data} x data, {members} x members'
  if processes.shared():
    text += f', of {processes.count()} processes'
  part, devices = batch // microbatches, len(_all())
  if idle := devices - mesh.size:
    fits = [microbatches * size for size in fitting(part, devices // members)]
    text += (
      f'; {idle} idle, because the devices do not divide a {"micro" if microbatches > 1 else ""}'
      f'batch of {part}: set batch_size to {" or ".join(map(str, fits))}'
    )
  if data > 1 and part // data < FEW:
    text += (
      f'; only {part // data} example(s) per device: communication limits the speed: set '
      f'batch_size to {FEW * data * microbatches}, or run {data} runs side by side on one device '
      'each (ensdistill sweep)'
    )
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


def by_row(mesh: Mesh, axis: int = 0) -> NamedSharding:
  """Return the sharding of rows [N, ...] that all devices share, each once; `axis` is theirs."""
  return NamedSharding(mesh, P(*[None] * axis, ('member', 'data')))


def by_parameter(mesh: Mesh, tree):
  """Return the shardings of stacked variables [M, ...] whose parts lie on the devices of a batch.

  Of every array, the largest axis that the devices divide is split, but not that of the members; so
  one member at a time can be put together (`whole`).
  """
  parts = mesh.shape['data']

  def sharding(leaf):
    sizes = [(size, axis) for axis, size in enumerate(leaf.shape) if axis and size % parts == 0]
    if not sizes:
      return replicated(mesh)
    axis = max(sizes)[1]
    return NamedSharding(mesh, P(*[None] * axis, 'data'))

  return jax.tree.map(sharding, tree)


def whole(mesh: Mesh, tree):
  """Return the tree, inside a program, with every array whole on every device of a batch."""
  return jax.lax.with_sharding_constraint(tree, NamedSharding(mesh, P()))


def place(tree, sharding):
  """Return host or device arrays placed by a sharding, or a tree of them.

  Every process holds the same values.
  """
  if all(s.is_fully_addressable for s in jax.tree.leaves(sharding)):
    return jax.device_put(tree, sharding)
  if isinstance(sharding, NamedSharding):
    return jax.tree.map(lambda leaf: _spread(leaf, sharding), tree)
  return jax.tree.map(_spread, tree, sharding)


def _spread(leaf, sharding: NamedSharding):
  """Return an array placed over devices of several processes, without communication."""
  if isinstance(leaf, jax.Array) and not leaf.is_fully_addressable:
    same = leaf.sharding.is_equivalent_to(sharding, leaf.ndim)
    return leaf if same else jax.jit(_same, out_shardings=sharding)(leaf)
  if jax.dtypes.issubdtype(getattr(leaf, 'dtype', None), jax.dtypes.prng_key):
    words = _spread(jax.random.key_data(leaf), sharding)
    return jax.random.wrap_key_data(words, impl=jax.random.key_impl(leaf))
  host = np.asarray(leaf)
  return jax.make_array_from_callback(host.shape, sharding, host.__getitem__)


def _same(tree):
  return tree


def own_rows(sharding: NamedSharding, size: int) -> np.ndarray:
  """Return the rows of an array [size, ...] that lie on devices of this process, in order."""
  slices = sharding.addressable_devices_indices_map((size,)).values()
  rows = [np.arange(*index[0].indices(size)) for index in slices if index]
  return np.unique(np.concatenate(rows))


def place_rows(
  own: np.ndarray, rows: np.ndarray, size: int, sharding: NamedSharding, axis: int = 0
):
  """Return an array of `size` rows, placed, of which each process holds its own `rows`.

  own: the values of these rows; `axis` is theirs.
  """
  shape = (*own.shape[:axis], size, *own.shape[axis + 1 :])

  def shard(index):
    chosen = np.searchsorted(rows, np.arange(*index[axis].indices(size)))
    return own[(*index[:axis], chosen, *index[axis + 1 :])]

  return jax.make_array_from_callback(shape, sharding, shard)


def fetch(tree):
  """Return arrays of any placement as numpy arrays, whole, in every process."""
  leaves, structure = jax.tree.flatten(tree)
  far = [
    i
    for i, leaf in enumerate(leaves)
    if isinstance(leaf, jax.Array)
    and not leaf.is_fully_addressable
    and not leaf.is_fully_replicated
  ]
  if far:
    whole = replicated(leaves[far[0]].sharding.mesh)
    found = jax.jit(_same, out_shardings=whole)([leaves[i] for i in far])
    for i, leaf in zip(far, found):
      leaves[i] = leaf
  return jax.device_get(jax.tree.unflatten(structure, leaves))


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
