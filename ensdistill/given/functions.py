"""An ensemble that is given as functions in JAX: one for all members, or one for each."""

import dataclasses
import hashlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ensdistill import data, families, imports, members
from ensdistill.members import Members


@dataclasses.dataclass(frozen=True)
class Functions:
  """Members that apply(variables, x) -> [B, O] computes; x are inputs as networks see them."""

  variables: Any  # leaves [M, ...], or () where every member is a function of its own
  freeze: Callable[[Any], Members]
  where: str
  content: str  # digest of source and variables

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

    def freeze(variables):
      del variables
      return _frozen([lambda x, f=f: standardised(f(x)) for f in functions])

  found = Functions(stacked, freeze, where, _digest(source, stacked))
  check_outputs(apply, stacked, functions, family, dataset, where)
  return found


def _joint(function: Callable, dataset, where: str, source: bytes) -> Functions:
  """Return the members of one function x -> outputs [B, M, O], which computes all of them."""
  family = families.FAMILIES[dataset.family]
  units = dataset.target_mean, dataset.target_std
  width = family.width(dataset.targets)
  x = data.as_input(np.asarray(dataset.train.x[:2]))
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

  return Functions((), freeze, where, _digest(source, ()))


def _called(function: Callable, x, where: str, who: str):
  """Return finite outputs of a function; its errors are one line."""
  try:
    outputs = function(x)
  except Exception as error:
    raise ValueError(
      f'{where}: {who} failed on inputs {x.shape} ({imports.described(error)})'
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
  raise ValueError(
    f'{where} returned a {type(given).__name__}: return (apply, variables), or a list of '
    'functions of x'
  )


def _stacked(variables, where: str):
  """Return the members' variables as one tree with a leading member axis."""
  if isinstance(variables, list | tuple):
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
  for module in modules:
    module.eval()
  graphs, states = zip(*(nnx.split(module) for module in modules))
  if any(graph != graphs[0] for graph in graphs):
    return None
  pure = [nnx.to_pure_dict(state) for state in states]

  def apply(variables, x):
    state = jax.tree.map(lambda leaf: leaf, states[0])
    nnx.replace_by_pure_dict(state, variables)
    return nnx.merge(graphs[0], state)(x)

  return apply, _stacked(pure, 'NNX modules')


def _frozen(functions: list[Callable]) -> Members:
  """Return members that are functions of their own; a traced index switches between them."""

  def outputs(x, index=None):
    if index is None:
      return jnp.stack([f(x) for f in functions], 1)
    chosen = [jax.lax.switch(index[i], functions, x) for i in range(len(index))]
    return jnp.stack(chosen, 1)

  return Members(len(functions), outputs)


def check_outputs(apply, stacked, functions, family, dataset, where: str) -> None:
  """Refuse functions that fail, or whose outputs are not [B, O] of finite numbers."""
  x = data.as_input(np.asarray(dataset.train.x[:2]))
  width = family.width(dataset.targets)
  if apply:
    sizes = range(jax.tree.leaves(stacked)[0].shape[0])
    functions = [lambda x, m=m: apply(members.take(stacked, m), x) for m in sizes]
  for number, function in enumerate(functions):
    outputs = _called(jax.jit(function), x, where, f'member {number}')
    if getattr(outputs, 'shape', None) != (len(x), width):
      raise ValueError(
        f'{where}: member {number} returned {_shape(outputs)} for {len(x)} inputs, not '
        f'{(len(x), width)}: '
        f'{"return logits" if family.has_classes else "return means, then log-variances"}'
      )


def check_gradients(given: Functions, dataset, perturbation) -> None:
  """Refuse members whose outputs have no gradient by x, if a perturbation needs it."""
  if not perturbation.gradient:
    return
  x = data.as_input(np.asarray(dataset.train.x[:8]))
  frozen = given.freeze(jax.tree.map(jnp.asarray, given.variables))

  def total(x):
    outputs = frozen.outputs(x, jnp.zeros(1, jnp.int32))
    weights_11O = jnp.cos(jnp.arange(outputs.shape[-1]))[None, None]
    return (outputs * weights_11O).sum()

  remedy = "perturb.name='gaussian' or 'none' needs no gradient"
  try:
    gradient = jax.jit(jax.grad(total))(x)
  except Exception as error:
    raise ValueError(
      f'{given.where} cannot be differentiated by x ({imports.described(error)}): {remedy}'
    ) from error
  if not bool(jnp.any(gradient != 0)):
    raise ValueError(
      f'{given.where} has a gradient of zero by x on the first training examples: {remedy}'
    )


def _digest(source: bytes, variables) -> str:
  digest = hashlib.sha256(source)
  for path, leaf in jax.tree_util.tree_leaves_with_path(variables):
    array = np.asarray(leaf)
    digest.update(f'{jax.tree_util.keystr(path)}{array.dtype}{array.shape}'.encode())
    digest.update(np.ascontiguousarray(array).data)
  return digest.hexdigest()
