"""Elementwise primitives of JAX as ONNX nodes."""

import dataclasses
import functools
import math
from typing import Any

import numpy as np

from ensdistill.exporting.onnx import special
from ensdistill.exporting.onnx.graph import Graph, Unsupported, Value, constant, is_one

# Primitives that are one operator of ONNX.
UNARY = {
  'abs': 'Abs',
  'acos': 'Acos',
  'acosh': 'Acosh',
  'asin': 'Asin',
  'asinh': 'Asinh',
  'atan': 'Atan',
  'atanh': 'Atanh',
  'ceil': 'Ceil',
  'cos': 'Cos',
  'cosh': 'Cosh',
  'erf': 'Erf',
  'exp': 'Exp',
  'floor': 'Floor',
  'log': 'Log',
  'logistic': 'Sigmoid',
  'neg': 'Neg',
  'sign': 'Sign',
  'sin': 'Sin',
  'sinh': 'Sinh',
  'sqrt': 'Sqrt',
  'tan': 'Tan',
  'tanh': 'Tanh',
}
BINARY = {
  'add': 'Add',
  'add_any': 'Add',
  'div': 'Div',
  'max': 'Max',
  'min': 'Min',
  'mul': 'Mul',
  'sub': 'Sub',
  'pow': 'Pow',
}
COMPARISONS = {
  'eq': 'Equal',
  'ge': 'GreaterOrEqual',
  'gt': 'Greater',
  'le': 'LessOrEqual',
  'lt': 'Less',
}
LOGICAL = {'and': 'And', 'or': 'Or', 'xor': 'Xor'}
# Primitives that change nothing in a program that runs once, on one device.
IDENTITIES = ('copy', 'copy_p', 'mesh_cast', 'pvary', 'sharding_constraint', 'stop_gradient')
MOST_PRODUCTS = 8  # powers up to this one are products


def held(values, shape) -> tuple:
  """Return the shape that an elementwise result is held in; scalars go with every shape."""
  sizes = [1] * len(shape)
  for value in values:
    for axis, size in enumerate(value.held):
      if not is_one(size):
        sizes[axis] = size
  return tuple(sizes)


def transposed(graph: Graph, x: Value, order) -> Value:
  """Return x with its axes in another order; a tensor keeps its layout until it is used."""
  order = [int(axis) for axis in order]
  shape, own = (tuple(sizes[axis] for axis in order) for sizes in (x.shape, x.held))
  if x.array is not None:
    return constant(x.array.transpose(order), shape)
  whole = tuple(order if x.order is None else [x.order[axis] for axis in order])
  left = None if whole == tuple(range(len(whole))) else whole
  moved = [axis for axis in order if not is_one(x.held[axis])]
  if left is not None and x.order is None and x.whole and moved == sorted(moved):
    return graph.reshaped(x, shape)  # only axes of size 1 move
  return dataclasses.replace(x, shape=shape, held=own, order=left)


def combined(graph: Graph, op: str, values, shape, dtype, **attributes) -> Value:
  """Return one operator over values that broadcast."""
  order = next((value.order for value in values if value.order is not None), None)
  if order is not None:  # compute in the layout of the tensor
    inverse = np.argsort(order)
    aligned = [transposed(graph, value, inverse) if value.shape else value for value in values]
    inner = [shape[axis] for axis in inverse]
    return transposed(graph, _added(graph, op, aligned, inner, dtype, attributes), order)
  return _added(graph, op, values, shape, dtype, attributes)


def _added(graph: Graph, op: str, values, shape, dtype, attributes) -> Value:
  own = held(values, shape)
  return graph.add(op, *values, shape=shape, held=own, dtype=dtype, **attributes)


def unary(graph: Graph, op: str, x: Value, dtype=None, **attributes) -> Value:
  """Return one operator over a value."""
  return combined(graph, op, [x], x.shape, dtype or x.dtype, **attributes)


def cast(graph: Graph, x: Value, dtype) -> Value:
  """Return a value as another type."""
  dtype = np.dtype(dtype)
  if x.dtype == dtype:
    return x
  if x.array is not None:
    return constant(x.array.astype(dtype), x.shape)
  return unary(graph, 'Cast', x, dtype, to=_type(dtype))


def _type(dtype) -> int:
  import onnx

  return int(onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))


def _number(x: Value, value) -> Value:
  return constant(np.array(value, x.dtype))


def _unary(graph, values, aval, params, op):
  return unary(graph, op, values[0])


def _binary(graph, values, aval, params, op):
  for x, other, swapped in ((*values, False), (*values[::-1], True)):
    if (x.name, x.order) in graph.affine and other.array is not None:
      found = _of_channels(graph, op, x, other, swapped)
      if found:
        return found
    is_relu = op == 'Max' and _is_number(other, 0) and aval.dtype.kind == 'f'
    if is_relu and x.name is not None and len(x.shape) == len(aval.shape):
      return unary(graph, 'Relu', x)
  return combined(graph, op, values, aval.shape, aval.dtype)


def _is_number(x: Value, number: float) -> bool:
  return x.array is not None and x.array.size == 1 and bool(x.array.reshape(()) == number)


def _of_channels(graph: Graph, op: str, x: Value, other: Value, swapped: bool) -> Value | None:
  """Return a convolution with an operator per channel folded into its weights, as batch norm is."""
  axis, convolution = graph.affine[x.name, x.order]
  if any(not is_one(size) for place, size in enumerate(other.held) if place != axis):
    return None
  c = np.asarray(other.array).reshape(-1)
  if op == 'Mul':
    return convolution(c, None)
  if op == 'Add':
    return convolution(None, c)
  if op == 'Sub':
    return convolution(-np.ones_like(c), c) if swapped else convolution(None, -c)
  return convolution(1 / c, None) if op == 'Div' and not swapped and c.all() else None


def _comparison(graph, values, aval, params, op):
  if op != 'Equal' and values[0].dtype == bool:
    values = [cast(graph, value, np.int32) for value in values]
  return combined(graph, op, values, aval.shape, bool)


def _logical(graph, values, aval, params, op):
  op = op if aval.dtype == bool else f'Bitwise{op}'
  return combined(graph, op, values, aval.shape, aval.dtype)


def _not(graph, values, aval, params):
  return unary(graph, 'Not' if aval.dtype == bool else 'BitwiseNot', values[0])


def _ne(graph, values, aval, params):
  return unary(graph, 'Not', _comparison(graph, values, aval, params, 'Equal'))


def _rem(graph, values, aval, params):
  return combined(graph, 'Mod', values, aval.shape, aval.dtype, fmod=1)


def _identity(graph, values, aval, params):
  return values[0]


def _convert(graph, values, aval, params):
  return cast(graph, values[0], aval.dtype)


def _reduce_precision(graph, values, aval, params):
  if (params['exponent_bits'], params['mantissa_bits']) != (8, 23):
    raise Unsupported('reduce_precision to other bits than those of float32')
  return values[0]


def _select(graph, values, aval, params):
  which, *cases = values
  if len(cases) == 1:
    return cases[0]
  if which.dtype == bool:
    slope = _slope(graph, which, cases[0], cases[1])
    if slope is not None:
      return unary(graph, 'LeakyRelu', cases[1], alpha=slope)
    return combined(graph, 'Where', [which, cases[1], cases[0]], aval.shape, aval.dtype)
  found = cases[-1]
  for i, case in reversed(list(enumerate(cases[:-1]))):
    here = combined(graph, 'Equal', [which, _number(which, i)], which.shape, bool)
    found = combined(graph, 'Where', [here, case, found], aval.shape, aval.dtype)
  return found


def _slope(graph, which: Value, below: Value, x: Value) -> float | None:
  """Return c of where(x >= 0, x, c x), and None for any other choice."""
  condition, product = (graph.producers.get(str(value.name)) for value in (which, below))
  same = x.name is not None and which.order == below.order == x.order
  if not (same and condition and product and product[0] == 'Mul'):
    return None
  if condition[0] not in ('Greater', 'GreaterOrEqual') or condition[1][0] != x.name:
    return None
  factors = [name for name in product[1] if name != x.name]
  known = [graph.initial.get(name) for name in (condition[1][1], *factors)]
  if len(known) != 2 or any(array is None or array.size != 1 for array in known):
    return None
  bound, slope = (float(array.reshape(())) for array in known)
  return slope if bound == 0 else None


def _clamp(graph, values, aval, params):
  low, x, high = values
  above = combined(graph, 'Max', [x, low], aval.shape, aval.dtype)
  return combined(graph, 'Min', [above, high], aval.shape, aval.dtype)


def _is_finite(graph, values, aval, params):
  size = unary(graph, 'Abs', values[0])
  return combined(graph, 'Less', [size, _number(size, np.inf)], aval.shape, bool)


def power(graph: Graph, x: Value, y: int) -> Value:
  """Return x to a whole power, as products where it is small."""
  if y < 0:
    return unary(graph, 'Reciprocal', power(graph, x, -y))
  if y == 0:
    return constant(np.ones((1,) * len(x.shape), x.dtype), x.shape)
  if y == 1:
    return x
  if y > MOST_PRODUCTS:
    return combined(graph, 'Pow', [x, _number(x, y)], x.shape, x.dtype)
  half = power(graph, x, y // 2)
  square = combined(graph, 'Mul', [half, half], x.shape, x.dtype)
  return combined(graph, 'Mul', [square, x], x.shape, x.dtype) if y % 2 else square


def _integer_pow(graph, values, aval, params):
  return power(graph, values[0], params['y'])


def _square(graph, values, aval, params):
  return power(graph, values[0], 2)


def _rsqrt(graph, values, aval, params):
  return unary(graph, 'Reciprocal', unary(graph, 'Sqrt', values[0]))


def _cbrt(graph, values, aval, params):
  x = values[0]
  root = combined(graph, 'Pow', [unary(graph, 'Abs', x), _number(x, 1 / 3)], x.shape, x.dtype)
  return combined(graph, 'Mul', [unary(graph, 'Sign', x), root], x.shape, x.dtype)


def _exp2(graph, values, aval, params):
  x = values[0]
  return combined(graph, 'Pow', [_number(x, 2), x], x.shape, x.dtype)


def _log2(graph, values, aval, params):
  x = values[0]
  scale = _number(x, 1 / math.log(2))
  return combined(graph, 'Mul', [unary(graph, 'Log', x), scale], x.shape, x.dtype)


def _one_minus_square(graph, values, aval, params):
  x = values[0]
  return combined(graph, 'Sub', [_number(x, 1), power(graph, x, 2)], x.shape, x.dtype)


def _erfc(graph, values, aval, params):
  x = values[0]
  return combined(graph, 'Sub', [_number(x, 1), unary(graph, 'Erf', x)], x.shape, x.dtype)


def _round(graph, values, aval, params):
  x = values[0]
  if int(params['rounding_method']) == 1:  # to the nearest even number
    return unary(graph, 'Round', x)
  size = combined(graph, 'Add', [unary(graph, 'Abs', x), _number(x, 0.5)], x.shape, x.dtype)
  pair = [unary(graph, 'Sign', x), unary(graph, 'Floor', size)]
  return combined(graph, 'Mul', pair, x.shape, x.dtype)


def _special(graph, values, aval, params, function):
  return function(graph, values[0])


# Primitive -> (graph, values, type of the result, parameters) -> value
HANDLERS: dict[str, Any] = {
  **{name: functools.partial(_unary, op=op) for name, op in UNARY.items()},
  **{name: functools.partial(_binary, op=op) for name, op in BINARY.items()},
  **{name: functools.partial(_comparison, op=op) for name, op in COMPARISONS.items()},
  **{name: functools.partial(_logical, op=op) for name, op in LOGICAL.items()},
  **dict.fromkeys(IDENTITIES, _identity),
  **{
    name: functools.partial(_special, function=getattr(special, name))
    for name in ('digamma', 'expm1', 'lgamma', 'log1p')
  },
  'cbrt': _cbrt,
  'clamp': _clamp,
  'convert_element_type': _convert,
  'erfc': _erfc,
  'exp2': _exp2,
  'integer_pow': _integer_pow,
  'is_finite': _is_finite,
  'log2': _log2,
  'ne': _ne,
  'not': _not,
  'one_minus_square': _one_minus_square,
  'reduce_precision': _reduce_precision,
  'rem': _rem,
  'round': _round,
  'rsqrt': _rsqrt,
  'select_n': _select,
  'square': _square,
}
