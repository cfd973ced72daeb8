"""An ensemble that is given as functions in JAX: one for all members, or one for each."""

import dataclasses
import functools
import hashlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ensdistill import data, families, members, messages
from ensdistill.members import Members

PROBES = 8  # training examples on which members are called before anything else


@dataclasses.dataclass(frozen=True)
class Functions:
  """Members that apply(variables, x) -> [B, O] computes; x are inputs as networks see them."""

  variables: Any  # leaves [M, ...], or () where every member is a function of its own
  freeze: Callable[[Any], Members]
  where: str
  content: str  # digest of source and variables; of outputs where one of them is not known

  @property
  def size(self) -> int:
    """The number of members."""
    return self.freeze(self.variables).size


def from_functions(given, dataset, where: str, source: bytes = b'', strategy: str = 'auto'):
  """Return the members of what a user's function returns, checked on the data set's inputs.

  Args:
    given: (apply, variables) with apply(variables, x) -> outputs [B, O] and the members' variables,
      stacked or as a list; or a list of functions x -> outputs [B, O]; or a list of NNX modules;
      or one function x -> outputs [B, M, O] of all members. Outputs are logits, or means and
      log-variances in the target's own units.
    dataset: the data set that they predict.
    where: where they come from, for messages.
    source: text of the source file, for the digest.
    strategy: how stacked members are computed; 'auto' unrolls them on a CPU, where convolutions
      in loops and under vmap are slow.
  """
  family = families.FAMILIES[dataset.family]
  units = dataset.target_mean, dataset.target_std
  _refuse_foreign(given, where)
  if callable(given):
    return _joint(given, dataset, where, source)
  apply, stacked, functions = _parts(given, where)

  def standardised(outputs):
    return jnp.asarray(family.standardise_outputs(outputs.astype(jnp.float32), *units))

  if strategy == 'auto':
    strategy = 'unroll' if jax.default_backend() == 'cpu' else 'vmap'
  if apply:

    def one(variables, x):
      return standardised(apply(variables, x))[:, None]

    def freeze(variables):
      return members.frozen(one, variables, strategy)

  else:

    def outputs_of(function, x):
      return standardised(function(x))

    def freeze(variables):
      del variables
      return _frozen([functools.partial(outputs_of, function) for function in functions])

  rows = check_outputs(apply, stacked, functions, family, dataset, where)
  probes = () if apply and source else rows
  return Functions(stacked, freeze, where, _digest(source, stacked, probes))


def _joint(function: Callable, dataset, where: str, source: bytes) -> Functions:
  """Return the members of one function x -> outputs [B, M, O], which computes all of them."""
  family = families.FAMILIES[dataset.family]
  units = dataset.target_mean, dataset.target_std
  width = family.width(dataset.targets)
  x = _inputs(dataset)
  outputs = _called(jax.jit(function), x, where, 'the function')
  if getattr(outputs, 'ndim', 0) != 3 or (len(outputs), outputs.shape[2]) != (len(x), width):
    raise ValueError(
      f'{where}: the function returned {_shape(outputs)} for {len(x)} inputs, not '
      f'({len(x)}, members, {width})'
    )

  def every(x, index=None):
    found = jnp.asarray(family.standardise_outputs(function(x).astype(jnp.float32), *units))
    return found if index is None else found[:, index]

  def freeze(variables):
    del variables
    return Members(outputs.shape[1], every)

  return Functions((), freeze, where, _digest(source, (), [outputs]))


def width(given, x, where: str) -> int:
  """Return the number of a member's outputs, by a call on a few inputs; see from_functions."""
  _refuse_foreign(given, where)
  if callable(given):
    outputs, last = _called(given, x, where, 'the function'), 3
  else:
    apply, stacked, functions = _parts(given, where)

    def first(x):
      return apply(members.take(stacked, 0), x) if apply else functions[0](x)

    outputs, last = _called(first, x, where, 'member 0'), 2
  if getattr(outputs, 'ndim', 0) != last:
    form = '(examples, members, outputs)' if last == 3 else '(examples, outputs)'
    raise ValueError(f'{where}: {_shape(outputs)} for {len(x)} inputs, not {form}')
  return outputs.shape[-1]


def _inputs(dataset):
  """Return the training examples on which members are checked."""
  return data.as_input(np.asarray(dataset.train.x[:PROBES]))


def _called(function: Callable, x, where: str, who: str):
  """Return finite outputs of a function; its errors are one line."""
  try:
    outputs = function(x)
  except Exception as error:
    remedy = ''
    if isinstance(error, jax.errors.JAXTypeError):  # such as NumPy on traced arrays
      remedy = ': write it in JAX, or give its outputs [N, M, O], by teachers.from_keras and others'
    raise ValueError(
      f'{where}: {who} failed on inputs {x.shape} ({messages.described(error)}){remedy}'
    ) from error
  if hasattr(outputs, 'dtype') and not bool(jnp.isfinite(outputs).all()):
    raise ValueError(f'{where}: {who} returned NaN or infinity on training examples')
  return outputs


def _shape(outputs) -> str:
  shape = getattr(outputs, 'shape', None)
  return type(outputs).__name__ if shape is None else f'shape {shape}'


def _parts(given, where: str) -> tuple[Callable | None, Any, list[Callable]]:
  """Return apply and stacked variables, or a function for each member."""
  if isinstance(given, tuple) and len(given) == 2 and callable(given[0]):
    apply, variables = given
    if callable(variables):
      return None, (), list(given)
    return apply, _stacked(variables, where), []
  if isinstance(given, list | tuple) and given and all(callable(one) for one in given):
    split = _nnx(given)
    return (split[0], split[1], []) if split else (None, (), list(given))
  several = list(given) if isinstance(given, list | tuple) else [given]
  if several and isinstance(given, list | tuple) and all(hasattr(one, 'shape') for one in several):
    raise ValueError(
      f'{where} is a list of {len(several)} arrays: stack them to [N, M, O], numpy.stack(arrays, 1)'
    )
  raise ValueError(
    f'{where} returned a {type(given).__name__}: return (apply, variables), or a list of '
    'functions of x'
  )


def _refuse_foreign(given, where: str) -> None:
  """Refuse members of another library."""
  several = list(given) if isinstance(given, list | tuple) else [given]
  if several and all(_is_foreign(one) for one in several):
    raise ValueError(
      f'{where} holds a {type(several[0]).__name__}, which JAX cannot call: give its outputs '
      '[N, M, O], by teachers.from_torch([...], x), from_keras or from_sklearn'
    )


def _is_foreign(one) -> bool:
  """Return whether a member belongs to another library, whose code JAX cannot trace."""
  owners = {kind.__module__.partition('.')[0] for kind in type(one).__mro__}
  is_estimator = hasattr(one, 'predict') and not callable(one)  # such as those of scikit-learn
  return is_estimator or bool(owners & {'torch', 'keras', 'tensorflow'})


def _stacked(variables, where: str):
  """Return the members' variables as one tree with a leading member axis."""
  if isinstance(variables, list | tuple) and not hasattr(variables, '_fields'):
    if not variables:
      raise ValueError(f'{where}: there are no variables: return those of one member or more')
    trees = {str(jax.tree.structure(one)) for one in variables}
    if len(trees) != 1:
      raise ValueError(f'{where}: members have variables of different structure: return functions')
    shapes = [[np.shape(leaf) for leaf in jax.tree.leaves(one)] for one in variables]
    for number, own in enumerate(shapes):
      if own != shapes[0]:
        pair = next(pair for pair in zip(shapes[0], own) if pair[0] != pair[1])
        raise ValueError(
          f'{where}: member {number} has an array of shape {pair[1]} where member 0 has {pair[0]}: '
          'return a list of functions for members of different shapes'
        )
    return jax.tree.map(lambda *leaves: np.stack([np.asarray(leaf) for leaf in leaves]), *variables)
  sizes = {np.shape(leaf)[:1] for leaf in jax.tree.leaves(variables)}
  if len(sizes) != 1 or sizes == {()}:
    raise ValueError(
      f'{where}: stacked variables need one leading member axis, but their leaves begin with '
      f'{sorted(sizes)}: return a list with the variables of each member'
    )
  return jax.tree.map(np.asarray, variables)


def _nnx(modules) -> tuple[Callable, Any] | None:
  """Return apply and stacked states of NNX modules of one definition; None for anything else."""
  from flax import nnx

  if not all(isinstance(module, nnx.Module) for module in modules):
    return None
  copies = [nnx.clone(module) for module in modules]  # the user's own keep their mode
  for copy in copies:
    copy.eval()
  # States of random numbers are no weights: nothing is drawn in evaluation mode.
  graphs, random, states = zip(*(nnx.split(copy, nnx.RngState, ...) for copy in copies))
  if any(graph != graphs[0] for graph in graphs):
    return None
  pure = [nnx.to_pure_dict(state) for state in states]

  def apply(variables, x):
    state = jax.tree.map(lambda leaf: leaf, states[0])
    nnx.replace_by_pure_dict(state, variables)
    return nnx.merge(graphs[0], random[0], state)(x)

  return apply, _stacked(pure, 'NNX modules')


def _frozen(functions: list[Callable]) -> Members:
  """Return members that are functions of their own; a traced index switches between them."""

  def outputs(x, index=None):
    if index is None:
      return jnp.stack([f(x) for f in functions], 1)
    chosen = [jax.lax.switch(index[i], functions, x) for i in range(len(index))]
    return jnp.stack(chosen, 1)

  return Members(len(functions), outputs)


def check_outputs(apply, stacked, functions, family, dataset, where: str) -> list:
  """Return each member's outputs [B, O]; refuse members that fail, other shapes and NaN."""
  x = _inputs(dataset)
  width = family.width(dataset.targets)
  calls: list[Callable]
  if apply:
    # Compiled once, because variables are arguments; a partial, as apply may have no hash.
    compiled = jax.jit(functools.partial(apply))
    sizes = range(jax.tree.leaves(stacked)[0].shape[0])
    calls = [functools.partial(compiled, members.take(stacked, m)) for m in sizes]
  else:
    calls = [jax.jit(function) for function in functions]
  found = []
  for number, call in enumerate(calls):
    outputs = _called(call, x, where, f'member {number}')
    if getattr(outputs, 'shape', None) != (len(x), width):
      raise ValueError(
        f'{where}: member {number} returned {_shape(outputs)} for {len(x)} inputs, not '
        f'{(len(x), width)}: '
        f'{"return logits" if family.has_classes else "return means, then log-variances"}'
      )
    found.append(outputs)
  return found


def check_gradients(given, dataset, perturbation) -> None:
  """Refuse members whose outputs have no gradient by x, if a perturbation needs it.

  Stored outputs have no members to call; `checks.check_given` refuses a perturbation of them.
  """
  if not isinstance(given, Functions) or not perturbation or not perturbation.gradient:
    return
  x = _inputs(dataset)
  frozen = given.freeze(jax.tree.map(jnp.asarray, given.variables))

  def total(x, index):
    outputs = frozen.outputs(x, index[None])
    weights_11O = jnp.cos(jnp.arange(outputs.shape[-1]))[None, None]
    return (outputs * weights_11O).sum()

  gradient_of = jax.jit(jax.grad(total))
  remedy = "perturb.name='gaussian' or 'none' needs no gradient"
  for number in range(frozen.size):
    try:
      gradient = np.asarray(gradient_of(x, jnp.int32(number)))
    except Exception as error:
      raise ValueError(
        f'{given.where} cannot be differentiated by x ({messages.described(error)}): {remedy}'
      ) from error
    if not np.isfinite(gradient).all() or not gradient.any():
      what = 'zero' if np.isfinite(gradient).all() else 'NaN or infinity'
      raise ValueError(
        f'{given.where}: member {number} has a gradient of {what} by x on the first training '
        f'examples: {remedy}'
      )


def _digest(source: bytes, variables, probes=()) -> str:
  """Return the digest of source and variables, and of outputs, rounded, where these are not all."""
  digest = hashlib.sha256(source)
  for path, leaf in jax.tree_util.tree_leaves_with_path(variables):
    array = np.asarray(leaf)
    digest.update(f'{jax.tree_util.keystr(path)}{array.dtype}{array.shape}'.encode())
    digest.update(array.tobytes())  # bfloat16 has no buffer
  for outputs in probes:
    array = np.asarray(outputs, np.float64)
    scale = 2.0 ** np.floor(np.log2(np.abs(array).max() or 1.0))
    digest.update((np.round(array / scale, 3) + 0.0).tobytes())  # -0 becomes 0
    digest.update(f'{scale}'.encode())
  return digest.hexdigest()
