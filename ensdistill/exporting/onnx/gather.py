"""The primitive `gather`, which JAX's indexing becomes, as slices and Gather nodes."""

import dataclasses
from typing import Any

import numpy as np

from ensdistill.exporting.onnx.elementwise import combined, transposed
from ensdistill.exporting.onnx.graph import Unsupported, Value, constant, is_same
from ensdistill.exporting.onnx.shapes import indices, sliced, squeezed


def _gather(graph, values, aval, params):
  x, where = values
  numbers, sizes = params['dimension_numbers'], params['slice_sizes']
  if numbers.operand_batching_dims:
    raise Unsupported('gather with a batch of indices')
  if where.known:
    places = np.asarray(graph.spread(where).array)
    return _gather_grid(graph, x, places, numbers, sizes, aval)
  axes = [int(axis) for axis in numbers.start_index_map]
  full = all(is_same(size, x.shape[axis]) for axis, size in enumerate(sizes) if axis not in axes)
  if len(axes) != 1 or axes != list(numbers.collapsed_slice_dims) or not full:
    raise Unsupported('gather along several axes at computed places')
  return _take(graph, graph.spread(x), graph.spread(where), axes[0], aval, params)


def _gather_grid(graph, x: Value, places, numbers, sizes, aval) -> Value:
  """Return x at known places [..., axes], where each axis varies with one axis of the places."""
  # Of each axis of x: (0, axis) while it is one, (1, axis of the places) once taken, or None.
  labels: list = [(0, axis) for axis in range(len(x.shape))]
  for axis, column in zip(numbers.start_index_map, np.moveaxis(places, -1, 0)):
    size = int(sizes[axis])
    column = np.clip(column, 0, int(x.shape[axis]) - size)
    varies = [a for a in range(column.ndim) if (column != column.take([0], a)).any()]
    collapsed = axis in numbers.collapsed_slice_dims
    if len(varies) > 1 or (varies and not collapsed):
      raise Unsupported('gather at places that are no grid')
    row = column.reshape(-1)[:1] if not varies else np.moveaxis(column, varies[0], 0)
    row = row.reshape(len(row), -1)[:, 0].astype(int)
    if collapsed:
      labels[axis] = (1, varies[0]) if varies else None
      x = _rows(graph, x, axis, row)
    else:
      x = _rows(graph, x, axis, row[0] + np.arange(size))
  for axis, size in enumerate(sizes):
    if axis not in numbers.start_index_map and not is_same(size, x.shape[axis]):
      x = _rows(graph, x, axis, np.arange(int(size)))
  x = squeezed(graph, x, [axis for axis, label in enumerate(labels) if label is None])
  return _in_order(graph, x, [label for label in labels if label], places, numbers, aval)


def _in_order(graph, x: Value, labels, places, numbers, aval) -> Value:
  """Return x with its axes where the result has them."""
  offsets = {int(a) for a in numbers.offset_dims}
  taken = [axis for was_taken, axis in labels if was_taken]
  batch = [(1, a) for a in range(places.ndim - 1)]
  kept = iter([label for label in labels if not label[0]])
  wanted = [next(kept) if place in offsets else batch.pop(0) for place in range(len(aval.shape))]
  order = [labels.index(label) for label in wanted if not label[0] or label[1] in taken]
  x = graph.spread(transposed(graph, x, order))
  if len(order) == len(wanted):
    return x
  if any(places.shape[a] != 1 for was_taken, a in wanted if was_taken and a not in taken):
    raise Unsupported('gather at repeated places')
  return graph.reshaped(x, aval.shape)


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


# Primitive -> (graph, values, type of the result, parameters) -> value
HANDLERS: dict[str, Any] = {'gather': _gather}
