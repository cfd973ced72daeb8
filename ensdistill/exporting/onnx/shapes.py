"""Primitives of JAX that move elements, as ONNX nodes."""

import dataclasses
import itertools
from typing import Any

import numpy as np

from ensdistill.exporting.onnx.elementwise import cast, transposed
from ensdistill.exporting.onnx.graph import (
  Graph,
  NotSymbolic,
  Unsupported,
  Value,
  constant,
  is_number,
  is_one,
  is_same,
)


def indices(graph: Graph, values) -> str:
  """Return the name of a tensor of indices."""
  return graph.initial_value(np.array(values, np.int64))


def sliced(graph: Graph, x: Value, starts, ends, steps=None) -> Value:
  """Return a part of x; axes of which only one element is held stay as they are."""
  steps = steps or [1] * len(x.shape)
  if x.order is not None:  # in the layout of the tensor
    inverse = np.argsort(x.order)
    parts_of = [[part[axis] for axis in inverse] for part in (starts, ends, steps)]
    return transposed(graph, sliced(graph, transposed(graph, x, inverse), *parts_of), x.order)
  shape, held, parts = [], [], []
  for axis, (start, end, step) in enumerate(zip(starts, ends, steps)):
    size = x.shape[axis]
    if is_same(start, 0) and is_same(end, size) and step == 1:
      shape.append(size)
      held.append(x.held[axis])
      continue
    if graph.factor(size) is not None or graph.factor(end) is not None:
      raise NotSymbolic('a part of the batch needs a fixed batch')
    count = len(range(int(start), int(end), int(step)))
    lazy = is_one(x.held[axis]) and not is_one(size)
    shape.append(count)
    held.append(1 if lazy else count)
    if not lazy:
      parts.append((axis, int(start), int(end), int(step)))
  if not parts:
    return dataclasses.replace(x, shape=tuple(shape), held=tuple(held))
  if x.array is not None:
    where = [slice(None)] * x.array.ndim
    for axis, start, end, step in parts:
      where[axis] = slice(start, end, step)
    return constant(x.array[tuple(where)], shape)
  names = [indices(graph, [part[i] for part in parts]) for i in (1, 2, 0, 3)]
  return graph.add('Slice', x, *names, shape=shape, held=held, dtype=x.dtype)


def squeezed(graph: Graph, x: Value, axes) -> Value:
  """Return x without axes of size 1."""
  kept = [axis for axis in range(len(x.shape)) if axis not in {int(a) for a in axes}]
  shape, own = (tuple(sizes[axis] for axis in kept) for sizes in (x.shape, x.held))
  if x.array is not None:
    return constant(x.array.reshape([int(size) for size in own]), shape)
  if len(kept) == len(x.shape):
    return x
  names = indices(graph, sorted({*range(len(x.shape))} - {*kept}))
  return graph.add('Squeeze', x, names, shape=shape, held=own, dtype=x.dtype)


def _broadcast(graph, values, aval, params):
  x, axes = values[0], params['broadcast_dimensions']
  held: list = [1] * len(aval.shape)
  for axis, size in zip(axes, x.held):
    held[axis] = size
  if x.array is not None:
    return constant(x.array.reshape([int(size) for size in held]), aval.shape)
  new = sorted({*range(len(held))} - {*axes})
  if not new:
    return dataclasses.replace(x, shape=tuple(aval.shape))
  names = indices(graph, new)
  op, inputs = graph.producers.get(str(x.name), ('', []))
  if op.startswith('Reduce') and x.order is None and inputs[1] == names:  # it keeps its axes then
    return graph.add(op, *inputs, shape=aval.shape, held=held, dtype=x.dtype, keepdims=1)
  return graph.add('Unsqueeze', x, names, shape=aval.shape, held=held, dtype=x.dtype)


def _reshape(graph, values, aval, params):
  x = values[0]
  if params.get('dimensions') is not None:
    x = transposed(graph, x, params['dimensions'])
  if not x.whole and all(map(is_one, x.held)):  # all elements are equal
    return Value(tuple(aval.shape), (1,) * len(aval.shape), x.dtype,
                 *_only(graph, x, len(aval.shape)))  # fmt: skip
  x = graph.spread(x)
  kept = _kept_axes(x, aval.shape)
  if not kept:
    return graph.reshaped(x, aval.shape)
  # The first axes change and the others, which wait for their transposition, do not.
  order, first = np.asarray(x.order), len(x.shape) - kept
  inner = transposed(graph, x, np.argsort(order))
  shape = [*aval.shape[: len(aval.shape) - kept], *inner.shape[first:]]
  moved = order[first:] - first + len(shape) - kept
  return transposed(graph, graph.reshaped(inner, shape), [*range(len(shape) - kept), *moved])


def _kept_axes(x: Value, shape) -> int:
  """Return the number of last axes that a reshape keeps and that move among themselves alone."""
  if x.order is None:
    return 0
  least = next(i for i, axis in enumerate(x.order) if i != axis)
  kept = len(x.shape) - least
  same = kept < len(shape) and all(map(is_same, x.shape[least:], shape[len(shape) - kept :]))
  return kept if same else 0


def _only(graph: Graph, x: Value, axes: int):
  one = dataclasses.replace(x, shape=(1,) * len(x.held))
  found = graph.reshaped(one, (1,) * axes)
  return found.array, found.name


def _squeeze(graph, values, aval, params):
  return squeezed(graph, values[0], params['dimensions'])


def _transpose(graph, values, aval, params):
  return transposed(graph, values[0], params['permutation'])


def _slice(graph, values, aval, params):
  return sliced(
    graph, values[0], params['start_indices'], params['limit_indices'], params['strides']
  )


def _split(graph, values, avals, params):
  (x,), axis, start, found = values, params['axis'], 0, []
  for size in params['sizes']:
    starts, ends = [0] * len(x.shape), list(x.shape)
    starts[axis], ends[axis] = start, start + size
    found.append(sliced(graph, x, starts, ends))
    start += size
  return found


def _dynamic_slice(graph, values, aval, params):
  x, *starts = values
  if not all(start.known for start in starts):
    raise Unsupported('dynamic_slice at computed places')
  first, ends = [], []
  for start, size, whole in zip(starts, params['slice_sizes'], x.shape):
    if is_same(size, whole):
      first.append(0)
    else:
      first.append(min(max(int(start.array), 0), int(whole) - int(size)))
    ends.append(size if is_same(size, whole) else first[-1] + size)
  return sliced(graph, x, first, ends)


def _rev(graph, values, aval, params):
  x = values[0]
  axes = [axis for axis in params['dimensions'] if not is_one(x.held[axis])]
  if not axes:
    return x
  if any(graph.factor(x.shape[axis]) is not None for axis in axes):
    raise NotSymbolic('the order of the batch needs a fixed batch')
  least = [-(2**31)] * len(axes)
  names = [indices(graph, part) for part in ([-1] * len(axes), least, axes, [-1] * len(axes))]
  return graph.add('Slice', x, *names, shape=x.shape, held=x.held, dtype=x.dtype)


def _concatenate(graph, values, aval, params):
  parts = [graph.spread(value) for value in values]
  if len(parts) == 1:
    return parts[0]
  axis = int(params['dimension'])
  return graph.add('Concat', *parts, shape=aval.shape, dtype=aval.dtype, axis=axis)


def _pad(graph, values, aval, params):
  x, filling = graph.spread(values[0]), values[1]
  if not all(map(is_number, itertools.chain(*params['padding_config']))):
    raise NotSymbolic('padding by the size of the batch needs a fixed batch')
  edges = [tuple(map(int, edge)) for edge in params['padding_config']]
  for axis, (_, _, inner) in enumerate(edges):
    x = dilated(graph, x, axis, inner + 1, filling)
  starts = [max(-low, 0) for low, _, _ in edges]
  ends = [size if high >= 0 else size + high for size, (_, high, _) in zip(x.shape, edges)]
  x = sliced(graph, x, starts, ends)
  pads = [max(low, 0) for low, _, _ in edges] + [max(high, 0) for _, high, _ in edges]
  if not any(pads):
    return x
  if x.order is not None:  # in the layout of the tensor
    inverse, axes = np.argsort(x.order), len(x.shape)
    pads = [pads[axis + end] for end in (0, axes) for axis in inverse]
    inner = transposed(graph, x, inverse)
    shape = [aval.shape[axis] for axis in inverse]
    found = graph.add('Pad', inner, indices(graph, pads), filling, shape=shape, dtype=x.dtype)
    return transposed(graph, found, x.order)
  return graph.add('Pad', x, indices(graph, pads), filling, shape=aval.shape, dtype=x.dtype)


def dilated(graph: Graph, x: Value, axis: int, step: int, filling: Value) -> Value:
  """Return x with step - 1 fillings between two elements of an axis."""
  if step == 1:
    return x
  size = x.shape[axis]
  apart = _with_axis(graph, graph.spread(x), axis + 1)
  pads = [0] * (2 * len(apart.shape))
  pads[len(apart.shape) + axis + 1] = step - 1
  wide = (*x.shape[: axis + 1], step, *x.shape[axis + 1 :])
  apart = graph.add('Pad', apart, indices(graph, pads), filling, shape=wide, dtype=x.dtype)
  joined = graph.reshaped(apart, (*x.shape[:axis], size * step, *x.shape[axis + 1 :]))
  ends = list(joined.shape)
  ends[axis] = int(size) * step - step + 1
  return sliced(graph, joined, [0] * len(ends), ends)


def _sort(graph, values, avals, params):
  if len(values) != 1:
    raise Unsupported('sort of several arrays')
  size = int(avals[0].shape[params['dimension']])
  return [_top(graph, values[0], size, params['dimension'], largest=0)[0]]


def _top_k(graph, values, avals, params):
  x = values[0]
  axis = int(params.get('axis', len(x.shape) - 1)) % len(x.shape)
  found, places = _top(graph, x, int(params['k']), axis, largest=1)
  return [found, cast(graph, places, avals[1].dtype)]


def _top(graph, x: Value, count: int, axis: int, largest: int) -> tuple[Value, Value]:
  """Return the first elements of an axis in order, and their places."""
  inputs = [graph.name(graph.spread(x)), indices(graph, [count])]
  names = graph.node('TopK', inputs, 2, axis=int(axis), largest=largest, sorted=1)
  shape = (*x.shape[:axis], count, *x.shape[axis + 1 :])
  kinds = x.dtype, np.dtype(np.int64)
  first, second = (Value(shape, shape, kind, name=name) for name, kind in zip(names, kinds))
  return first, second


def _iota(graph, values, aval, params):
  axis, sizes = params['dimension'], [1] * len(aval.shape)
  if graph.factor(aval.shape[axis]) is not None:
    raise NotSymbolic('counting the batch needs a fixed batch')
  sizes[axis] = aval.shape[axis]
  return constant(np.arange(sizes[axis]).astype(aval.dtype).reshape(sizes), aval.shape)


def _dim_as_value(graph, values, aval, params):
  factor = graph.factor(params['dim'])
  if factor is None:
    return constant(np.array(int(params['dim']), aval.dtype))
  size = Value((1,), (1,), np.dtype(np.int64), name=graph.batch(factor))
  return squeezed(graph, cast(graph, size, aval.dtype), (0,))


def element(graph: Graph, x: Value, i: int, axis: int = 0) -> Value:
  """Return the element at a place of an axis, without this axis."""
  starts, ends = [0] * len(x.shape), list(x.shape)
  starts[axis], ends[axis] = i, i + 1
  return squeezed(graph, sliced(graph, x, starts, ends), (axis,))


def stacked(graph: Graph, parts, axis: int = 0) -> Value:
  """Return parts of equal shape along a new axis."""
  rows = [_with_axis(graph, graph.spread(part), axis) for part in parts]
  if all(row.array is not None for row in rows):
    return constant(np.concatenate([np.asarray(row.array) for row in rows], axis))
  shape = [*rows[0].shape[:axis], len(rows), *rows[0].shape[axis + 1 :]]
  return graph.add('Concat', *rows, shape=shape, dtype=rows[0].dtype, axis=axis)


def _with_axis(graph: Graph, x: Value, axis: int) -> Value:
  shape = (*x.shape[:axis], 1, *x.shape[axis:])
  if x.array is not None:
    return constant(x.array.reshape([int(size) for size in shape]))
  return graph.add('Unsqueeze', x, indices(graph, [axis]), shape=shape, dtype=x.dtype)


def _stack(graph, values, aval, params):
  return stacked(graph, values, int(params['axis']))


def _unstack(graph, values, avals, params):
  axis = int(params['axis'])
  return [element(graph, values[0], i, axis) for i in range(len(avals))]


def _tile(graph, values, aval, params):
  repeats = indices(graph, params['reps'])
  return graph.add('Tile', graph.spread(values[0]), repeats, shape=aval.shape, dtype=aval.dtype)


# Primitive -> (graph, values, type of the result, parameters) -> value
HANDLERS: dict[str, Any] = {
  'broadcast_in_dim': _broadcast,
  'concatenate': _concatenate,
  'dim_as_value': _dim_as_value,
  'dynamic_slice': _dynamic_slice,
  'iota': _iota,
  'pad': _pad,
  'reshape': _reshape,
  'rev': _rev,
  'slice': _slice,
  'sort': _sort,
  'split': _split,
  'squeeze': _squeeze,
  'stack': _stack,
  'tile': _tile,
  'top_k': _top_k,
  'transpose': _transpose,
  'unstack': _unstack,
}
