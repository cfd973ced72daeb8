"""Products, convolutions, reductions and windows of JAX as ONNX nodes."""

import functools
import math
from typing import Any

import jax
import numpy as np

from ensdistill.exporting.onnx.elementwise import cast, combined, transposed, unary
from ensdistill.exporting.onnx.graph import Graph, Unsupported, Value, constant, is_one
from ensdistill.exporting.onnx.shapes import dilated, indices, squeezed

REDUCTIONS = {
  'reduce_max': 'ReduceMax',
  'reduce_min': 'ReduceMin',
  'reduce_prod': 'ReduceProd',
  'reduce_sum': 'ReduceSum',
}


def _reduce(graph, values, aval, params, op):
  x, axes = values[0], [int(axis) for axis in params['axes']]
  if not axes:
    return x
  if any(is_one(x.held[axis]) and not is_one(x.shape[axis]) for axis in axes):
    x = graph.spread(x)
  if all(is_one(x.shape[axis]) for axis in axes):
    return squeezed(graph, x, axes)
  if x.order is not None:  # in the layout of the tensor
    inverse = np.argsort(x.order)
    left = [axis for axis in range(len(x.shape)) if axis not in axes]
    inner = transposed(graph, x, inverse)
    places = sorted(x.order[axis] for axis in left)  # of what is left, in the tensor
    taken = [x.order[axis] for axis in axes]
    shape = [inner.shape[place] for place in places]
    made = jax.ShapeDtypeStruct(shape, x.dtype)
    found = _reduce(graph, [inner], made, {'axes': taken}, op)
    return transposed(graph, found, [places.index(x.order[axis]) for axis in left])
  own = [size for axis, size in enumerate(x.held) if axis not in axes]
  return graph.add(
    op, x, indices(graph, axes), shape=aval.shape, held=own, dtype=x.dtype, keepdims=0
  )


def _reduce_bool(graph, values, aval, params, op):
  numbers = [cast(graph, values[0], np.int32)]
  return cast(graph, _reduce(graph, numbers, aval, params, op), bool)


def _arg(graph, values, aval, params, op):
  x, (axis,) = graph.spread(values[0]), params['axes']
  place = graph.add(op, x, shape=aval.shape, dtype=np.int64, axis=int(axis), keepdims=0)
  return cast(graph, place, aval.dtype)


def _cumsum(graph, values, aval, params):
  x = graph.spread(values[0])
  axis = graph.initial_value(np.array(params['axis'], np.int64))
  reverse = int(params['reverse'])
  return graph.add('CumSum', x, axis, shape=x.shape, dtype=x.dtype, reverse=reverse)


def _size(sizes):
  """Return the product of sizes, of which one may be a symbol."""
  total = 1
  for size in sizes:
    total = size * total
  return total


def _dot(graph, values, aval, params):
  (left_in, right_in), (left_batch, right_batch) = params['dimension_numbers']
  left, right = values
  wanted = np.dtype(params['preferred_element_type'] or aval.dtype)
  left, right = (cast(graph, x, wanted) for x in (left, right))
  left_free, right_free = (
    [axis for axis in range(len(x.shape)) if axis not in (*inner, *batch)]
    for x, inner, batch in ((left, left_in, left_batch), (right, right_in, right_batch))
  )
  shared = [left.shape[axis] for axis in left_batch]
  rows, columns = ([x.shape[axis] for axis in free]
                   for x, free in ((left, left_free), (right, right_free)))  # fmt: skip
  inner = _size(left.shape[axis] for axis in left_in)
  a = transposed(graph, graph.spread(left), [*left_batch, *left_free, *left_in])
  b = transposed(graph, graph.spread(right), [*right_batch, *right_in, *right_free])
  # Without batch axes, MatMul takes any number of rows' axes.
  kept_rows = rows if not shared or len(rows) == 1 else [_size(rows)]
  a = graph.reshaped(a, [*shared, *kept_rows, inner])
  b = graph.reshaped(b, [*shared, inner, _size(columns)])
  if not kept_rows:
    a = graph.reshaped(a, [*shared, 1, inner])
    kept_rows = [1]
  shape = [*shared, *kept_rows, _size(columns)]
  product = graph.add('MatMul', a, b, shape=shape, dtype=wanted)
  return cast(graph, graph.reshaped(product, [*shared, *rows, *columns]), aval.dtype)


def _conv(graph, values, aval, params):
  x, w = (cast(graph, graph.spread(value), aval.dtype) for value in values)
  numbers = params['dimension_numbers']
  if params['batch_group_count'] != 1:
    raise Unsupported('convolution with groups of the batch')
  pads = [tuple(map(int, pair)) for pair in params['padding']]
  zero = constant(np.zeros((), x.dtype))
  for axis, step in zip(numbers.lhs_spec[2:], params['lhs_dilation']):  # a transposed convolution
    x = dilated(graph, x, int(axis), int(step), zero)
  if any(pad < 0 for pair in pads for pad in pair):
    raise Unsupported('convolution with negative padding')
  images = transposed(graph, x, numbers.lhs_spec)  # to N, C, H, W
  kernel = transposed(graph, w, numbers.rhs_spec)  # to O, I, H, W
  settings = {
    'group': int(params['feature_group_count']),
    'strides': [int(step) for step in params['window_strides']],
    'dilations': [int(step) for step in params['rhs_dilation']],
    'pads': [low for low, _ in pads] + [high for _, high in pads],
    'kernel_shape': [int(size) for size in kernel.shape[2:]],
  }
  return _convolution(graph, images, kernel, None, aval, numbers.out_spec, settings)


def _convolution(graph: Graph, images: Value, kernel: Value, bias, aval, spec, settings) -> Value:
  shape, inputs = [aval.shape[axis] for axis in spec], [images, kernel]
  if bias is not None:
    inputs.append(constant(bias))
  y = graph.add('Conv', *inputs, shape=shape, dtype=aval.dtype, **settings)
  found = transposed(graph, y, np.argsort(spec))
  if kernel.array is None:
    return found

  def scaled(scale_C, shift_C) -> Value:
    weights, new = np.asarray(kernel.array), np.zeros(1, aval.dtype) if bias is None else bias
    if scale_C is not None:
      weights, new = weights * scale_C.reshape(-1, 1, 1, *(1,) * (weights.ndim - 3)), new * scale_C
    if shift_C is not None:
      new = new + shift_C
    new = np.broadcast_to(new.astype(aval.dtype), weights.shape[:1])
    return _convolution(graph, images, constant(weights), new, aval, spec, settings)

  graph.affine[found.name, found.order] = spec[1], scaled
  return found


def _windows(graph, values, aval, params, op):
  x = graph.spread(values[0])
  sizes = [int(size) for size in params['window_dimensions']]
  strides = [int(step) for step in params['window_strides']]
  pads = [tuple(map(int, pair)) for pair in params['padding']]
  dilations = params.get('window_dilation') or (1,) * len(sizes)
  if any(step != 1 for step in (*(params.get('base_dilation') or ()), *dilations)):
    raise Unsupported(f'{op} with dilated windows')
  moving = [
    axis
    for axis, (size, step, pad) in enumerate(zip(sizes, strides, pads))
    if size > 1 or step > 1 or any(pad)
  ]
  if not moving or len(moving) > 3:
    raise Unsupported(f'{op} over {len(moving)} axes')
  still = [axis for axis in range(len(sizes)) if axis not in moving]
  order = [*still, *moving]
  inner = transposed(graph, x, order)
  leading, places = [x.shape[axis] for axis in still], [x.shape[axis] for axis in moving]
  inner = graph.reshaped(inner, [_size(leading), 1, *places])
  made = [aval.shape[axis] for axis in moving]
  settings: dict[str, Any] = {'count_include_pad': 1} if op == 'AveragePool' else {}
  y = graph.add(
    op,
    inner,
    shape=[_size(leading), 1, *made],
    dtype=x.dtype,
    kernel_shape=[sizes[axis] for axis in moving],
    strides=[strides[axis] for axis in moving],
    pads=[pads[axis][0] for axis in moving] + [pads[axis][1] for axis in moving],
    **settings,
  )
  y = transposed(graph, graph.reshaped(y, [*leading, *made]), np.argsort(order))
  if op == 'AveragePool':
    count = constant(np.array(math.prod(sizes), x.dtype))
    return combined(graph, 'Mul', [y, count], y.shape, y.dtype)
  return y


def _least_windows(graph: Graph, values, aval, params):
  """Return the minimum over windows, which is minus the maximum of minus x."""
  negative = [unary(graph, 'Neg', graph.spread(values[0]))]
  return unary(graph, 'Neg', _windows(graph, negative, aval, params, 'MaxPool'))


# Primitive -> (graph, values, type of the result, parameters) -> value
HANDLERS: dict[str, Any] = {
  **{name: functools.partial(_reduce, op=op) for name, op in REDUCTIONS.items()},
  'argmax': functools.partial(_arg, op='ArgMax'),
  'argmin': functools.partial(_arg, op='ArgMin'),
  'conv_general_dilated': _conv,
  'cumsum': _cumsum,
  'dot_general': _dot,
  'reduce_and': functools.partial(_reduce_bool, op='ReduceMin'),
  'reduce_or': functools.partial(_reduce_bool, op='ReduceMax'),
  'reduce_window_max': functools.partial(_windows, op='MaxPool'),
  'reduce_window_min': _least_windows,
  'reduce_window_sum': functools.partial(_windows, op='AveragePool'),
}
