"""Primitives of JAX that move elements, as ONNX nodes."""

import dataclasses
import itertools
from typing import Any

import numpy as np

from ensdistill.exporting.onnx.elementwise import cast, combined
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


def transposed(graph: Graph, x: Value, order) -> Value:
  """Return x with its axes in another order."""
  order = [int(axis) for axis in order]
  if order == list(range(len(order))):
    return x
  shape, own = ([sizes[axis] for axis in order] for sizes in (x.shape, x.held))
  if x.array is not None:
    return constant(x.array.transpose(order), shape)
  moved = [axis for axis in order if not is_one(x.held[axis])]
  if moved == sorted(moved) and all(map(is_same, x.held, x.shape)):
    return graph.reshaped(x, shape)
  return graph.add('Transpose', x, shape=shape, held=own, dtype=x.dtype, perm=order)


def sliced(graph: Graph, x: Value, starts, ends, steps=None) -> Value:
  """Return a part of x; axes of which only one element is held stay as they are."""
  steps = steps or [1] * len(x.shape)
  shape, own, parts = [], [], []
  for axis, (start, end, step) in enumerate(zip(starts, ends, steps)):
    size = x.shape[axis]
    if is_same(start, 0) and is_same(end, size) and step == 1:
      shape.append(size)
      own.append(x.held[axis])
      continue
    if graph.factor(size) is not None or graph.factor(end) is not None:
      raise NotSymbolic('a part of the batch needs a fixed batch')
    count = len(range(int(start), int(end), int(step)))
    lazy = is_one(x.held[axis]) and not is_one(size)
    shape.append(count)
    own.append(1 if lazy else count)
    if not lazy:
      parts.append((axis, int(start), int(end), int(step)))
  if not parts:
    return Value(tuple(shape), tuple(own), x.dtype, x.array, x.name)
  if x.array is not None:
    where = [slice(None)] * x.array.ndim
    for axis, start, end, step in parts:
      where[axis] = slice(start, end, step)
    return constant(x.array[tuple(where)], shape)
  names = [indices(graph, [part[i] for part in parts]) for i in (1, 2, 0, 3)]
  return graph.add('Slice', x, *names, shape=shape, held=own, dtype=x.dtype)


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
  own: list = [1] * len(aval.shape)
  for axis, size in zip(axes, x.held):
    own[axis] = size
  if x.array is not None:
    return constant(x.array.reshape([int(size) for size in own]), aval.shape)
  new = sorted({*range(len(own))} - {*axes})
  if not new:
    return Value(tuple(aval.shape), x.held, x.dtype, name=x.name)
  names = indices(graph, new)
  return graph.add('Unsqueeze', x, names, shape=aval.shape, held=own, dtype=x.dtype)


def _reshape(graph, values, aval, params):
  x = values[0]
  if params.get('dimensions') is not None:
    x = transposed(graph, x, params['dimensions'])
  if not x.whole and all(map(is_one, x.held)):  # one number everywhere
    return Value(tuple(aval.shape), (1,) * len(aval.shape), x.dtype,
                 *_only(graph, x, len(aval.shape)))  # fmt: skip
  return graph.reshaped(graph.spread(x), aval.shape)


def _only(graph: Graph, x: Value, axes: int):
  one = Value((1,) * len(x.held), x.held, x.dtype, x.array, x.name)
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
  if any(inner for _, _, inner in edges):
    raise Unsupported('pad between elements')
  starts = [max(-low, 0) for low, _, _ in edges]
  ends = [size if high >= 0 else size + high for size, (_, high, _) in zip(x.shape, edges)]
  x = sliced(graph, x, starts, ends)
  pads = [max(low, 0) for low, _, _ in edges] + [max(high, 0) for _, high, _ in edges]
  if not any(pads):
    return x
  return graph.add('Pad', x, indices(graph, pads), filling, shape=aval.shape, dtype=x.dtype)


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


def _gather(graph, values, aval, params):
  x, where = values
  numbers, sizes = params['dimension_numbers'], params['slice_sizes']
  if numbers.operand_batching_dims:
    raise Unsupported('gather with a batch of indices')
  if len(where.shape) == 1 and where.known:
    return _gather_one(graph, x, np.asarray(graph.spread(where).array), numbers, sizes)
  axes = [int(axis) for axis in numbers.start_index_map]
  full = all(is_same(size, x.shape[axis]) for axis, size in enumerate(sizes) if axis not in axes)
  if sorted(axes) != sorted(numbers.collapsed_slice_dims) or not full:
    raise Unsupported('gather of larger parts')
  if where.known:
    places = np.asarray(graph.spread(where).array)
    return _gather_grid(graph, x, places, axes, {int(a) for a in numbers.offset_dims}, aval)
  if len(axes) != 1:
    raise Unsupported('gather along several axes at computed places')
  return _take(graph, graph.spread(x), graph.spread(where), axes[0], aval, params)


def _gather_grid(graph, x: Value, places, axes, offsets, aval) -> Value:
  """Return x at known places [..., axes], where each axis varies with one axis of the places."""
  labels: list = [(0, axis) for axis in range(len(x.shape))]  # (1, axis of the places) once taken
  for axis, column in zip(axes, np.moveaxis(places, -1, 0)):
    column = np.clip(column, 0, int(x.shape[axis]) - 1)
    varies = [a for a in range(column.ndim) if (column != column.take([0], a)).any()]
    if len(varies) > 1:
      raise Unsupported('gather at places that are no grid')
    row = column.reshape(-1)[:1] if not varies else np.moveaxis(column, varies[0], 0)
    row = row.reshape(len(row), -1)[:, 0].astype(int)
    labels[axis] = (1, varies[0]) if varies else None
    x = _rows(graph, x, axis, row)
  x = squeezed(graph, x, [axis for axis, label in enumerate(labels) if label is None])
  labels = [label for label in labels if label is not None]
  taken = [label[1] for label in labels if label[0]]
  batch = [(1, a) for a in range(places.ndim - 1)]
  kept = iter([label for label in labels if not label[0]])
  wanted = [next(kept) if place in offsets else batch.pop(0) for place in range(len(aval.shape))]
  order = [labels.index(label) for label in wanted if not label[0] or label[1] in taken]
  x = graph.spread(transposed(graph, x, order))
  if len(order) < len(wanted):
    one = all(places.shape[a] == 1 for k, a in wanted if k and a not in taken)
    if not one:
      raise Unsupported('gather at repeated places')
    x = graph.reshaped(x, aval.shape)
  return x


def _rows(graph, x: Value, axis: int, places) -> Value:
  """Return x at known places of an axis: a slice, if they are evenly spaced."""
  steps = np.unique(np.diff(places))
  if len(places) == 1 or (len(steps) == 1 and steps[0] > 0):
    step = int(steps[0]) if len(steps) else 1
    starts, ends, every = [0] * len(x.shape), list(x.shape), [1] * len(x.shape)
    starts[axis], ends[axis], every[axis] = int(places[0]), int(places[-1]) + 1, step
    return sliced(graph, x, starts, ends, every)
  x = graph.spread(x)
  shape = (*x.shape[:axis], len(places), *x.shape[axis + 1 :])
  name = indices(graph, places)
  return graph.add('Gather', x, name, shape=shape, dtype=x.dtype, axis=axis)


def _gather_one(graph, x: Value, start, numbers, sizes) -> Value:
  """Return the part at one known place."""
  first, ends = [0] * len(x.shape), list(x.shape)
  for axis, at in zip(numbers.start_index_map, start):
    first[axis] = int(np.clip(at, 0, int(x.shape[axis]) - int(sizes[axis])))
    ends[axis] = first[axis] + int(sizes[axis])
  for axis, size in enumerate(sizes):
    if axis not in numbers.start_index_map and not is_same(size, x.shape[axis]):
      ends[axis] = int(size)
  return squeezed(graph, sliced(graph, x, first, ends), numbers.collapsed_slice_dims)


def _take(graph, x: Value, where: Value, axis: int, aval, params) -> Value:
  """Return elements of x along one axis, at indices [..., 1]."""
  numbers, size = params['dimension_numbers'], int(x.shape[axis])
  places = squeezed(graph, where, [len(where.shape) - 1])
  inside = combined(graph, 'Max', [places, _index(places, 0)], places.shape, places.dtype)
  inside = combined(graph, 'Min', [inside, _index(places, size - 1)], places.shape, places.dtype)
  filled = 'FILL' in str(params['mode'])
  if places.array is not None:
    clipped = np.clip(places.array, 0, size - 1)
    inside = constant(clipped)
    filled = filled and not np.array_equal(clipped, places.array)
  shape = (*x.shape[:axis], *places.shape, *x.shape[axis + 1 :])
  found = graph.add('Gather', x, inside, shape=shape, dtype=x.dtype, axis=axis)
  if filled:
    found = _filled(graph, found, places, inside, axis, params['fill_value'])
  batch = iter(range(axis, axis + len(places.shape)))
  kept = iter([*range(axis), *range(axis + len(places.shape), len(shape))])
  offsets = {int(a) for a in numbers.offset_dims}
  order = [next(kept) if place in offsets else next(batch) for place in range(len(shape))]
  return transposed(graph, found, order)


def _filled(graph, found: Value, places: Value, inside: Value, axis: int, filling) -> Value:
  """Return what was gathered, with a filling for places outside."""
  if filling is None and found.dtype.kind != 'f':
    raise Unsupported('gather of integers that fills in missing places')
  after = len(found.shape) - axis - len(places.shape)
  held = (*(1,) * axis, *places.shape, *(1,) * after)
  known = combined(graph, 'Equal', [places, inside], places.shape, bool)
  known = dataclasses.replace(graph.reshaped(graph.spread(known), held), shape=found.shape)
  value = constant(np.array(np.nan if filling is None else filling, found.dtype))
  return combined(graph, 'Where', [known, found, value], found.shape, found.dtype)


def _index(places: Value, value: int) -> Value:
  return constant(np.array(value, places.dtype))


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
  'gather': _gather,
  'iota': _iota,
  'pad': _pad,
  'reshape': _reshape,
  'rev': _rev,
  'slice': _slice,
  'split': _split,
  'squeeze': _squeeze,
  'stack': _stack,
  'tile': _tile,
  'transpose': _transpose,
  'unstack': _unstack,
}
