"""Build a graph of ONNX nodes; equal nodes and constants are stored once."""

import dataclasses
import hashlib
from collections.abc import Callable
from typing import Any

import numpy as np

OPSET = 18
IR = 8  # the first version of the format with this opset, so that older runtimes read the file


class Unsupported(ValueError):
  """A part of a network cannot be converted to ONNX."""


class NotSymbolic(Unsupported):
  """A size that depends on the batch is used in a way that needs a fixed batch."""


@dataclasses.dataclass(frozen=True, eq=False)
class Value:
  """An array of the traced program: known, or the name of a tensor of the graph.

  `held` is the shape that is stored; an axis of size 1 may stand for any size in `shape`, as
  operators of ONNX broadcast. So broadcasts of JAX cost nothing in most cases. `order` is a
  transposition of the tensor that is still to be done; between two convolutions, which ONNX has in
  another layout than JAX, it never is.
  """

  shape: tuple  # sizes, which may be multiples of a symbol
  held: tuple
  dtype: Any
  array: np.ndarray | None = None
  name: str | None = None
  order: tuple[int, ...] | None = None

  @property
  def known(self) -> bool:
    """Whether the values are known when the file is written."""
    return self.array is not None

  @property
  def whole(self) -> bool:
    """Whether every axis is stored in full."""
    return all(is_same(a, b) for a, b in zip(self.held, self.shape))


def is_number(size) -> bool:
  """Return whether a size is a number, not a multiple of the symbol."""
  return isinstance(size, int | np.integer)


def is_same(a, b) -> bool:
  """Return whether two sizes are equal; a symbol is equal to itself alone."""
  return is_number(a) == is_number(b) and bool(a == b)


def is_one(size) -> bool:
  """Return whether a size is the number 1."""
  return is_number(size) and bool(size == 1)


def constant(array, shape=None) -> Value:
  """Return a known value; `shape` if it stands for a larger one."""
  array = np.asarray(array)
  return Value(tuple(array.shape if shape is None else shape), array.shape, array.dtype, array)


class Graph:
  """Nodes in order, and the initial values.

  Args:
    symbol: the size of a batch in shapes; None: all sizes are numbers.
    input: the name of the tensor whose first axis is the batch.
  """

  def __init__(self, symbol=None, input: str = 'input'):
    self.nodes: list[tuple[str, list[str], list[str], dict]] = []
    self.initial: dict[str, np.ndarray] = {}
    self.producers: dict[str, tuple[str, list[str]]] = {}  # name -> operator and inputs
    # Convolutions by the name and order of their result: their axis of channels, and a function
    # (scale [C], shift [C]) -> the same convolution with scaled and shifted results.
    self.affine: dict[Any, tuple[int, Callable]] = {}
    self._symbol, self._input = symbol, input
    self._made: dict[Any, list[str]] = {}
    self._names: dict[Any, str] = {}

  def node(self, op: str, inputs: list[str], outputs: int = 1, **attributes) -> list[str]:
    """Return the names of a node's outputs; an equal node that exists is used again."""
    key = op, tuple(inputs), outputs, repr(sorted(attributes.items()))
    if key not in self._made:
      number = len(self.nodes)
      names = [f'{op.lower()}_{number}' + (f'_{i}' if i else '') for i in range(outputs)]
      self.nodes.append((op, inputs, names, attributes))
      self._made[key] = names
      self.producers |= dict.fromkeys(names, (op, inputs))
    return self._made[key]

  def add(self, op: str, *inputs, shape, dtype, held=None, **attributes) -> Value:
    """Add a node of one output; inputs are values, or the names of tensors."""
    names = [x if isinstance(x, str) else self.name(x) for x in inputs]
    (name,) = self.node(op, names, **attributes)
    shape = tuple(shape)
    return Value(shape, shape if held is None else tuple(held), np.dtype(dtype), name=name)

  def name(self, value: Value) -> str:
    """Return the name of a tensor, which is an initial value if the value is known."""
    if value.array is not None:
      return self.initial_value(value.array)
    if value.order is None:
      return str(value.name)
    return self.node('Transpose', [str(value.name)], perm=list(value.order))[0]

  def initial_value(self, array, name: str = '') -> str:
    """Return the name of an initial value; equal ones are stored once."""
    array = np.ascontiguousarray(array).reshape(np.shape(array))
    key = str(array.dtype), array.shape, hashlib.sha256(array.tobytes()).digest()
    if key not in self._names:
      self._names[key] = name or f'constant_{len(self._names)}'
      self.initial[self._names[key]] = array
    return self._names[key]

  def sizes(self, shape) -> str:
    """Return the name of a tensor with the sizes of a shape, which may hold the symbol."""
    factors = [self.factor(size) for size in shape]
    if all(factor is None for factor in factors):
      return self.initial_value(np.array([int(size) for size in shape], np.int64))
    parts = [
      self.initial_value(np.array([int(size)], np.int64)) if factor is None else self.batch(factor)
      for size, factor in zip(shape, factors)
    ]
    return parts[0] if len(parts) == 1 else self.node('Concat', parts, axis=0)[0]

  def batch(self, factor: int) -> str:
    """Return the name of a tensor [1] that holds factor times the number of examples."""
    (name,) = self.node('Shape', [self._input], start=0, end=1)
    if factor == 1:
      return name
    return self.node('Mul', [name, self.initial_value(np.array([factor], np.int64))])[0]

  def factor(self, size) -> int | None:
    """Return k for a size of k batches, and None for a number."""
    if is_number(size):
      return None
    k = None if self._symbol is None else size // self._symbol
    if not isinstance(k, int) or not size == k * self._symbol:
      raise NotSymbolic(f'a size of {size} needs a fixed batch')
    return k

  def reshaped(self, value: Value, shape) -> Value:
    """Return a value that is held in full in another shape of equal size."""
    shape = tuple(shape)
    if value.array is not None:
      return constant(value.array.reshape(shape))
    if len(shape) == len(value.held) and all(map(is_same, shape, value.held)):
      return value
    open_sizes = [i for i, size in enumerate(shape) if self.factor(size) is not None]
    if len(open_sizes) <= 1:
      sizes = [-1 if i in open_sizes else int(size) for i, size in enumerate(shape)]
      target = self.initial_value(np.array(sizes, np.int64))
    else:
      target = self.sizes(shape)
    return self.add('Reshape', value, target, shape=shape, dtype=value.dtype)

  def spread(self, value: Value) -> Value:
    """Return the value with every axis stored in full."""
    if value.whole:
      return value
    if value.array is not None and all(self.factor(size) is None for size in value.shape):
      return constant(np.broadcast_to(value.array, value.shape))
    sizes = self.sizes(value.shape)
    return self.add('Expand', value, sizes, shape=value.shape, dtype=value.dtype)

  def used(self, outputs: list[str]) -> list[tuple[str, list[str], list[str], dict]]:
    """Return the nodes that the outputs need."""
    wanted, kept = set(outputs), []
    for node in reversed(self.nodes):
      if wanted & set(node[2]):
        wanted |= set(node[1])
        kept.append(node)
    return kept[::-1]
