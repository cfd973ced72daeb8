"""From a traced JAX function to an ONNX model.

Calls within the program are inlined, loops of a known length are unrolled, and everything that
depends on weights alone is computed here.
"""

import collections
import functools
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import export as jax_export

from ensdistill import messages, runtime
from ensdistill.exporting.onnx import elementwise, gather, linear, shapes
from ensdistill.exporting.onnx.graph import (
  IR,
  OPSET,
  Graph,
  NotSymbolic,
  Unsupported,
  Value,
  constant,
  is_number,
)

INPUT = 'input'
LONGEST_LOOP = 256
HANDLERS = {
  **elementwise.HANDLERS,
  **shapes.HANDLERS,
  **gather.HANDLERS,
  **linear.HANDLERS,
}
# Parameters that hold the program of a call: jit, custom_jvp_call, custom_vjp_call, checkpoint, ...
_PROGRAMS = ('jaxpr', 'call_jaxpr', 'fun_jaxpr', 'call')


def convert(
  function: Callable,
  variables: Any,
  x: Callable[[Any], jax.ShapeDtypeStruct],
  *,
  names: Sequence[str],
  batch: int | None = None,
  about: Mapping[str, str] | None = None,
):
  """Return function(variables, x) -> {name: array} as an onnx.ModelProto.

  Args:
    x: size of a batch -> type of the input.
    names: the outputs that the model has, in order.
    batch: size of a batch; None: a symbol.
    about: metadata to store.

  Raises Unsupported, with the primitive, if the program has one that is unknown here; NotSymbolic
  if it needs a fixed batch.
  """
  symbol = None if batch else jax_export.symbolic_shape('batch')[0]
  try:
    closed, outputs = jax.make_jaxpr(function, return_shape=True)(variables, x(batch or symbol))
  except Exception as error:
    if batch:
      raise
    cause = messages.one_line(error)
    raise NotSymbolic(f'tracing with an open batch failed ({cause})') from error
  graph, weights = Graph(symbol, INPUT), jax.tree.leaves(variables)
  arguments = [constant(np.asarray(weight)) for weight in weights]
  taken = x(batch or symbol)
  arguments.append(Value(taken.shape, taken.shape, np.dtype(taken.dtype), name=INPUT))
  _name_weights(graph, variables)
  try:
    made = _run(graph, closed.jaxpr, [constant(np.asarray(c)) for c in closed.consts], arguments)
  except jax.errors.InconclusiveDimensionOperation as error:
    raise NotSymbolic(
      'a size of the batch is used as a number, which needs a fixed batch'
    ) from error
  keys = [path[0].key for path, _ in jax.tree_util.tree_leaves_with_path(outputs)]
  found = dict(zip(keys, made, strict=True))
  return _model(graph, taken, {name: found[name] for name in names}, about or {})


def _name_weights(graph: Graph, variables) -> None:
  """Let weights that enter the graph as they are keep their names."""
  for path, leaf in jax.tree_util.tree_leaves_with_path(variables):
    name = '/'.join(str(getattr(key, 'key', key)) for key in path)
    graph.initial_value(np.asarray(leaf), name)


def _run(graph: Graph, jaxpr, constants, arguments) -> list[Value]:
  """Return the results of a program whose values may be known or tensors of the graph."""
  values: dict[Any, Value] = dict(zip(jaxpr.constvars, constants, strict=True))
  values |= dict(zip(jaxpr.invars, arguments, strict=True))

  def read(atom) -> Value:
    if hasattr(atom, 'val'):
      return constant(np.asarray(atom.val, atom.aval.dtype))
    return values[atom]

  equations = _needed(jaxpr)
  uses = collections.Counter(
    atom
    for atoms in (jaxpr.outvars, *(equation.invars for equation in equations))
    for atom in atoms
    if not hasattr(atom, 'val')
  )

  def keep(variables) -> None:
    for variable in variables:  # a convolution that is used twice is computed once
      if uses[variable] > 1:
        graph.affine.pop((values[variable].name, values[variable].order), None)

  keep(jaxpr.invars)
  for equation in equations:
    inputs = [read(atom) for atom in equation.invars]
    found = _equation(graph, equation, inputs)
    values |= dict(zip(equation.outvars, found))
    keep(equation.outvars)
  return [read(atom) for atom in jaxpr.outvars]


def _needed(jaxpr) -> list:
  """Return the equations that the results depend on; others may draw random numbers, or print."""
  wanted, kept = {atom for atom in jaxpr.outvars if not hasattr(atom, 'val')}, []
  for equation in reversed(jaxpr.eqns):
    if wanted.intersection(equation.outvars):
      wanted |= {atom for atom in equation.invars if not hasattr(atom, 'val')}
      kept.append(equation)
  return kept[::-1]


def _equation(graph: Graph, equation, inputs: list[Value]) -> list[Value]:
  name, params = equation.primitive.name, equation.params
  avals = [variable.aval for variable in equation.outvars]
  if name in CONTROL:
    return CONTROL[name](graph, inputs, equation)
  program = next((params[key] for key in _PROGRAMS if _is_program(params.get(key))), None)
  if program is not None:
    return _call(graph, program, inputs)
  known = all(value.known for value in inputs)
  if known and name in elementwise.HANDLERS:
    return [_folded_elementwise(equation, inputs)]
  if known and name not in _KEPT and all(map(_is_fixed, avals)):
    return _folded(graph, equation, inputs)
  if name not in HANDLERS:
    raise Unsupported(f'the JAX primitive {name!r}')
  many = equation.primitive.multiple_results
  found = HANDLERS[name](graph, inputs, avals if many else avals[0], params)
  return list(found) if many else [found]


# Known results of these are small until they are used.
_KEPT = ('broadcast_in_dim', 'dim_as_value', 'iota')


def _is_program(value) -> bool:
  return hasattr(value, 'eqns') or hasattr(value, 'jaxpr')


def _is_fixed(aval) -> bool:
  return all(is_number(size) for size in aval.shape)


def _call(graph: Graph, program, inputs: list[Value]) -> list[Value]:
  constants = [constant(np.asarray(c)) for c in getattr(program, 'consts', ())]
  return _run(graph, getattr(program, 'jaxpr', program), constants, inputs)


def _bound(equation, arrays) -> list[np.ndarray]:
  """Return the results of an equation with known inputs, as JAX computes them."""
  with jax.default_matmul_precision('highest'):
    found = equation.primitive.bind(*map(jnp.asarray, arrays), **equation.params)
  return [np.asarray(a) for a in (found if equation.primitive.multiple_results else [found])]


def _folded(graph: Graph, equation, inputs: list[Value]) -> list[Value]:
  arrays = [np.broadcast_to(np.asarray(value.array), value.shape) for value in inputs]
  return [constant(array) for array in _bound(equation, arrays)]


def _folded_elementwise(equation, inputs: list[Value]) -> Value:
  """Return a known result, held as its inputs are: an axis of size 1 may stand for any size."""
  shape = equation.outvars[0].aval.shape
  held = elementwise.held(inputs, shape)
  arrays = [
    np.asarray(value.array if not value.shape else np.broadcast_to(np.asarray(value.array), held))
    for value in inputs
  ]
  return constant(_bound(equation, arrays)[0], shape)


def _scan(graph: Graph, inputs: list[Value], equation) -> list[Value]:
  """Unroll a loop of a known length."""
  params, length = equation.params, equation.params['length']
  # Versions of JAX name the numbers of constants and carried values differently; a stacked value
  # has one axis more than the loop's body sees.
  body = params['jaxpr'].jaxpr
  carried = _alike(equation.outvars, body.outvars)
  rows_in = len(inputs) - _alike(equation.invars, body.invars)
  fixed = len(inputs) - rows_in - carried
  if not is_number(length):
    raise NotSymbolic('a loop over the batch needs a fixed batch')
  if length > LONGEST_LOOP:
    raise Unsupported(f'a loop of {length} steps')
  constants, carry = inputs[:fixed], inputs[fixed : fixed + carried]
  stacked, rows = inputs[fixed + carried :], []
  order = range(length - 1, -1, -1) if params['reverse'] else range(length)
  for i in order:
    own = [shapes.element(graph, value, i) for value in stacked]
    found = _call(graph, params['jaxpr'], [*constants, *carry, *own])
    carry = found[:carried]
    rows.append(found[carried:])
  if params['reverse']:
    rows.reverse()
  return [*carry, *(shapes.stacked(graph, parts) for parts in zip(*rows))]


def _alike(outer, inner) -> int:
  """Return the number of variables that have as many axes outside of a loop as inside."""
  return sum(a.aval.ndim == b.aval.ndim for a, b in zip(outer, inner, strict=True))


def _cond(graph: Graph, inputs: list[Value], equation) -> list[Value]:
  """Return the results of the branch that is known, or choose between those of all branches."""
  params = equation.params
  which, *arguments = inputs
  if which.known:
    branch = int(np.clip(np.asarray(which.array), 0, len(params['branches']) - 1))
    return _call(graph, params['branches'][branch], arguments)
  every = [_call(graph, branch, arguments) for branch in params['branches']]
  select = elementwise.HANDLERS['select_n']
  return [select(graph, [which, *cases], cases[0], {}) for cases in zip(*every)]


def _barrier(graph: Graph, inputs: list[Value], equation) -> list[Value]:
  return inputs


CONTROL: dict[str, Callable] = {
  'scan': _scan,
  'cond': _cond,
  'optimization_barrier': _barrier,
}


def _renamed(graph: Graph, outputs: Mapping[str, str]) -> list:
  """Return the nodes that the outputs {name: tensor} need, with the outputs' names."""
  renamed: dict[str, str] = {}
  for name, tensor in outputs.items():
    if tensor in graph.producers and tensor not in renamed:
      renamed[tensor] = name
  nodes = [
    (op, [renamed.get(i, i) for i in inputs], [renamed.get(o, o) for o in made], settings)
    for op, inputs, made, settings in graph.used(list(outputs.values()))
  ]
  for name, tensor in outputs.items():
    source = renamed.get(tensor, tensor)
    if source != name:  # an input, a constant, or the same as another output
      nodes.append(('Identity', [source], [name], {}))
  return nodes


@functools.cache
def _version() -> str:
  return runtime.versions().get('ensdistill', '')


def _model(graph: Graph, taken, outputs: Mapping[str, Value], about: Mapping[str, str]):
  """Return the model of a graph, checked."""
  import onnx

  helper, kinds = onnx.helper, onnx.helper.np_dtype_to_tensor_dtype

  def described(name, shape, dtype):
    sizes = [int(size) if is_number(size) else str(size) for size in shape]
    return helper.make_tensor_value_info(name, kinds(np.dtype(dtype)), sizes)

  whole = {name: graph.spread(value) for name, value in outputs.items()}
  nodes = _renamed(graph, {name: graph.name(value) for name, value in whole.items()})
  used = set(itertools.chain(*(node[1] for node in nodes)))
  made = helper.make_graph(
    [
      helper.make_node(op, inputs, names, name=f'{op}_{i}', **settings)
      for i, (op, inputs, names, settings) in enumerate(nodes)
    ],
    'student',
    [described(INPUT, taken.shape, taken.dtype)],
    [described(name, value.shape, value.dtype) for name, value in whole.items()],
    [onnx.numpy_helper.from_array(a, name) for name, a in graph.initial.items() if name in used],
  )
  model = helper.make_model(
    made,
    opset_imports=[helper.make_opsetid('', OPSET)],
    ir_version=IR,
    producer_name='ensdistill',
    producer_version=_version(),
  )
  helper.set_model_props(model, dict(about))
  onnx.checker.check_model(model, full_check=True)
  return model
