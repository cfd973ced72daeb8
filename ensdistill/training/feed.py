"""Feeds: the batches of training and validation, on the device or streamed from the host.

A feed has three main parts. `start(at, mesh)` places data on the devices and yields the input of
each call of the loop from step `at` on; `draw(seen, state)` returns the batch of a step inside the
compiled program; `shapes` describes what `start` yields. A validation set has `scorer`. Only
`training_feed` and `validation_set` know which kind they make.
"""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Generator
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from ensdistill import data, mesh, processes, stopping
from ensdistill.data import sampler
from ensdistill.training.step import AUGMENTATION, key_of_step

AUGMENTED = 'augmented'  # the array that selects the examples to augment; without it, all


class Feed(Protocol):
  """The batches of a stage."""

  @property
  def batch(self) -> int:
    """Examples of a step."""

  @property
  def steps_per_call(self) -> int | None:
    """Steps in one call of the loop; None: any number."""

  @property
  def shapes(self) -> Any:
    """What `start` yields, as arrays or their shapes."""

  def start(self, at: int, device_mesh) -> Generator[Any]:
    """Place data on the devices; yield the input of each call from step `at` on."""

  def draw(self, seen, state) -> dict[str, jax.Array]:
    """Return the batch of a step inside the compiled program."""
    raise NotImplementedError

  def indices(self, order: jax.Array, step: int) -> list[int]:
    """Return the training examples of a step in an order, on the host."""
    raise NotImplementedError

  def ordered(self, orders: jax.Array) -> 'Feed':
    """Return the same feed for networks of other orders."""
    raise NotImplementedError


class Validation(Protocol):
  """The examples that score networks in training."""

  @property
  def batch(self) -> int:
    """Examples of one block."""

  def examples(self, seen, number) -> tuple[jax.Array, jax.Array]:
    """Return x and y inside the compiled program, for the network of this number."""
    raise NotImplementedError

  def scorer(self, score: Callable, device_mesh) -> Callable:
    """Return a function from stacked networks to {name: [S]}; score(networks, seen) is compiled."""
    raise NotImplementedError


def training_feed(
  arrays: dict[str, Any],
  orders: jax.Array,
  *,
  streams: bool,
  steps: int,
  batch: int,
  augment: Callable | None = None,
  crop_area: float = 0.0,
  workers: int | None = None,
) -> Feed:
  """Return the feed of a stage of `steps` steps over named arrays, for networks of these orders."""
  if not streams:
    return OnDevice(arrays, batch, augment)
  stream = data.Stream(arrays, orders, steps=steps, batch=batch, area=crop_area, workers=workers)
  return Streamed(stream, batch, augment)


def validation_set(x, y, batch: int) -> Validation:
  """Return the validation set of a stage; images in files are scored block by block."""
  return InBlocks(x, y, batch) if data.stored.in_files(x) else OnDeviceValidation(x, y, batch)


@dataclasses.dataclass(frozen=True)
class OnDevice:
  """A training set that lies on the device as a whole; batches are gathered inside the step."""

  arrays: dict[str, Any]
  batch: int
  augment: Callable | None = None

  steps_per_call: int | None = None

  @property
  def shapes(self):
    return self.arrays

  def start(self, at: int, device_mesh) -> Generator[Any]:
    """Yield the placed arrays, the same for every call."""
    del at
    placed = mesh.place(self.arrays, mesh.replicated(device_mesh))
    yield from itertools.repeat(placed)

  def draw(self, seen, state) -> dict[str, jax.Array]:
    """Return the batch of a step: a pure function of the network's order and the step."""
    size = seen['x'].shape[0]
    index = sampler.indices(state.order, state.step, size=size, batch=self.batch)
    drawn = {name: jnp.take(values, index, axis=0) for name, values in seen.items()}
    return as_inputs(drawn, state, self.augment)

  @property
  def size(self) -> int:
    """The number of training examples."""
    return self.arrays['x'].shape[0]

  def indices(self, order: jax.Array, step: int) -> list[int]:
    """Return the training examples of a step in an order, on the host."""
    return sampler.indices(order, step, size=self.size, batch=self.batch).tolist()

  def ordered(self, orders: jax.Array) -> 'OnDevice':
    """Return the same feed: batches follow from the networks' states."""
    del orders
    return self


@dataclasses.dataclass(frozen=True)
class Streamed:
  """A training set that comes to the device batch by batch."""

  stream: data.Stream
  batch: int
  augment: Callable | None = None

  steps_per_call: int | None = 1

  @property
  def shapes(self):
    return self.stream.shapes

  def start(self, at: int, device_mesh) -> Generator[data.Batch]:
    """Yield one placed batch a step, read ahead.

    If several processes share the run, each reads its own rows of every batch. The devices then
    hold each row once, and exchange rows if several members see the same ones.
    """
    replicated = mesh.replicated(device_mesh)
    if not processes.shared():
      own, place_arrays = None, functools.partial(mesh.place, sharding=mesh.by_example(device_mesh))
    else:
      own, place_arrays = self._own(device_mesh)

    def place(batch):
      return data.Batch(place_arrays(batch.arrays), mesh.place(batch.orders, replicated))

    yield from data.ahead(self.stream.starting(at, own), place)

  def _own(self, device_mesh) -> tuple[np.ndarray, Callable]:
    """Return the rows of a batch that this process reads, and a function that places them."""
    size = mesh.rounded(self.batch)  # the devices divide it; `draw` cuts the rest
    by_example = mesh.by_row(device_mesh, axis=1)
    rows = mesh.own_rows(mesh.by_row(device_mesh), size)
    own = rows[rows < self.batch]

    def place(arrays):
      def one(array):
        missing = [(0, len(rows) - len(own) if axis == 1 else 0) for axis in range(array.ndim)]
        return mesh.place_rows(np.pad(array, missing), rows, size, by_example, axis=1)

      return jax.tree.map(one, arrays)

    return own, place

  def draw(self, seen: data.Batch, state) -> dict[str, jax.Array]:
    """Return the part of a streamed batch that belongs to the network's order."""
    own = (seen.orders == jax.random.key_data(state.order)[None]).all(-1).argmax()
    drawn = {name: values[own, : self.batch] for name, values in seen.arrays.items()}
    return as_inputs(drawn, state, self.augment)

  def indices(self, order: jax.Array, step: int) -> list[int]:
    """Return the training examples of a step in an order, on the host."""
    return sampler.indices(order, step, size=self.stream.size, batch=self.batch).tolist()

  def ordered(self, orders: jax.Array) -> 'Streamed':
    """Return the same feed for networks of other orders."""
    return dataclasses.replace(self, stream=self.stream.ordered(orders))


def as_inputs(drawn: dict, state, augment: Callable | None = None) -> dict[str, jax.Array]:
  """Return a batch with its inputs as networks see them: float32 in the input space, augmented.

  If the batch has AUGMENTED, a boolean per example, only the examples with True are augmented.
  """
  x = data.as_input(drawn['x'])
  if augment:
    chosen = drawn.get(AUGMENTED)
    changed = augment(key_of_step(state.order, AUGMENTATION, state.step), x)
    x = changed if chosen is None else jnp.where(chosen[:, None, None, None], changed, x)
  others = {name: values for name, values in drawn.items() if name != AUGMENTED}
  return {**others, 'x': x}


@dataclasses.dataclass(frozen=True)
class OnDeviceValidation:
  """A validation set that lies on the device as a whole."""

  x: Any
  y: Any
  batch: int

  def examples(self, seen, number):
    """Return x and y inside the compiled program, the same for every network."""
    del number
    return seen

  def scorer(self, score: Callable, device_mesh) -> Callable:
    """Return a function from stacked networks to {name: [S]}; score(networks, seen) is compiled."""
    placed = mesh.place((self.x, self.y), mesh.replicated(device_mesh))
    return lambda networks: score(networks, placed)


class InBlocks(OnDeviceValidation):
  """A validation set in files, scored block by block."""

  def scorer(self, score: Callable, device_mesh) -> Callable:
    """Return a function from stacked networks to {name: [S]}: means over all examples.

    If several processes share the run, each reads its own rows of a block.
    """
    replicated, rows, size = mesh.replicated(device_mesh), None, self.batch
    by_row = mesh.by_row(device_mesh)
    if processes.shared():
      size = mesh.rounded(self.batch)
      rows = mesh.own_rows(by_row, size)

    def place(block):
      (x, y), count = block
      if rows is None:
        return mesh.place((x, y), replicated), count
      return (mesh.place_rows(x, rows, size, by_row), mesh.place(y, replicated)), count

    def scored(networks):
      blocks = data.ahead(iter(data.Blocks(self.x, self.y, self.batch, size, rows)), place)
      found = []
      for seen, count in blocks:
        stopping.check_together('the last checkpoint is kept')
        found.append((mesh.fetch(score(networks, seen)), count))
      sizes = np.array([count for _, count in found], np.float32)

      def mean(*values):
        return np.average(np.stack(values), axis=0, weights=sizes)

      means = jax.tree.map(mean, *[values for values, _ in found])
      return mesh.place(means, mesh.by_member(device_mesh))

    return scored
