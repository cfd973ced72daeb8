"""What a network costs: parameters, floating-point operations, milliseconds per example."""

import contextlib
import math
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ensdistill import nets, stopping
from ensdistill.evaluation import networks, rows
from ensdistill.evaluation.networks import Network


class Timed(NamedTuple):
  """A compiled forward pass and its arguments."""

  call: Callable
  arguments: tuple
  batch: int
  flops: float | None  # per example


def parameters(variables) -> int:
  """Return the number of trainable parameters; of a foreign network, of all its variables."""
  named = isinstance(variables, dict) and 'params' in variables
  return sum(leaf.size for leaf in jax.tree.leaves(variables['params'] if named else variables))


def convolutions(module) -> float:
  """Return the operations of the convolutions of a forward pass, per example.

  They are counted in the traced program, so nothing compiles.
  """
  x = jnp.zeros((1, *module.backbone.shape))
  forward = jax.make_jaxpr(nets.with_form(module, 'plain').init)
  return _convolutions(forward(jax.random.key(0), x).jaxpr)


def _convolutions(jaxpr) -> float:
  total = 0.0
  for equation in jaxpr.eqns:
    if equation.primitive.name == 'conv_general_dilated':
      kernel = equation.invars[1].aval.shape
      outputs = kernel[equation.params['dimension_numbers'].rhs_spec[0]]
      total += 2 * equation.outvars[0].aval.size * math.prod(kernel) / outputs
    for value in equation.params.values():  # functions within
      inner = getattr(value, 'jaxpr', value)
      total += _convolutions(inner) if hasattr(inner, 'eqns') else 0
  return total


def compiled(function: Callable, variables: Any, shape, dtype, batch: int) -> Timed:
  """Return function(variables, x) compiled for a batch of inputs."""
  stopping.check()
  x = jnp.zeros((batch, *shape), dtype)
  program = jax.jit(function).lower(variables, x).compile()
  flops = None
  with contextlib.suppress(KeyError, TypeError, NotImplementedError):  # some back ends do not tell
    flops = (program.cost_analysis() or {})['flops'] / batch
  return Timed(program, (variables, x), batch, flops)


class Milliseconds(NamedTuple):
  """Milliseconds per example: the median of repeats, and half their interquartile range."""

  median: float
  spread: float


def milliseconds(programs: dict[Any, Timed], repeats: int = 15) -> dict[Any, Milliseconds]:
  """Return milliseconds per example; programs take turns, so a slow minute hits all."""
  taken: dict[Any, list[float]] = {name: [] for name in programs}
  for program in programs.values():
    jax.block_until_ready(program.call(*program.arguments))
  for _ in range(repeats):
    stopping.check()
    for name, program in programs.items():
      began = time.perf_counter()
      jax.block_until_ready(program.call(*program.arguments))
      taken[name].append(1e3 * (time.perf_counter() - began) / program.batch)
  found = {}
  for name, times in taken.items():
    low, middle, high = statistics.quantiles(times, n=4, method='inclusive')
    found[name] = Milliseconds(middle, (high - low) / 2)
  return found


def of_models(
  models: dict[str, tuple[Callable, Any, int]],
  shape,
  dtype,
  alike: Mapping[str, str] | None = None,
) -> dict[str, dict]:
  """Return the costs of {name: (forward, variables, parameters)} at batch 1 and 128.

  alike: {name: the model of equal architecture whose time is also its own}.
  """
  programs = {
    (name, batch): compiled(forward, variables, shape, np.dtype(dtype), batch)
    for name, (forward, variables, _) in models.items()
    for batch in (1, 128)
  }
  same = alike or {}
  took = milliseconds({key: program for key, program in programs.items() if key[0] not in same})

  def timed(name: str, batch: int) -> Milliseconds:
    return took[same.get(name, name), batch]

  return {
    name: {
      'params': count,
      'flops': programs[name, 1].flops,
      'ms_per_example': timed(name, 128).median,
      'ms_per_example/spread': timed(name, 128).spread,
      'ms_per_example/batch_1': timed(name, 1).median,
      'ms_per_example/batch_1/spread': timed(name, 1).spread,
    }
    for name, (_, _, count) in models.items()
  }


def of_networks(dataset, ensemble: Network | None, students: list[Network]) -> dict[str, dict]:
  """Return the costs of one member, the ensembles and the student (and its average), in one run.

  Members of stored outputs, and those that are functions of their own, are not timed.
  """
  timed: list[Network] = []
  has_variables = ensemble is not None and bool(jax.tree.leaves(ensemble.variables))
  if ensemble is not None and has_variables:
    first = jax.tree.map(lambda leaf: leaf[:1], ensemble.variables)
    timed = [ensemble._replace(role=rows.MEMBER, size=1, variables=first)]
    timed += [ensemble] if ensemble.size > 1 else []
  timed += networks.of_first_seed(students)
  models = {
    network.name: (network.predictor.forward, network.variables, parameters(network.variables))
    for network in timed
  }
  alike = _alike(timed)
  costs = of_models(models, dataset.train.x.shape[1:], dataset.train.x.dtype, alike)
  if ensemble is None or not has_variables:
    return costs
  member = costs[rows.name(rows.MEMBER, 1)]
  for size in range(2, ensemble.size + 1):
    # XLA counts the body of a loop over members once, so the ensemble's operations are multiplied.
    own = {'params': member['params'] * size, 'flops': member['flops'] and member['flops'] * size}
    name = rows.name(rows.ENSEMBLE, size)
    costs[name] = costs.get(name, {}) | own
  return costs


def _alike(timed: list[Network]) -> dict[str, str]:
  """Return {network: the last one of equal architecture}; those two are timed once.

  Architectures are equal where names and shapes of all variables are, of networks of one member.
  """
  last = {_architecture(network): network.name for network in timed if network.size == 1}
  return {
    network.name: last[_architecture(network)]
    for network in timed
    if network.size == 1 and last[_architecture(network)] != network.name
  }


def _architecture(network: Network) -> tuple:
  """Return names and shapes of the variables of one network; a member has a leading axis."""
  skip = 1 if network.role == rows.MEMBER else 0
  leaves = jax.tree_util.tree_leaves_with_path(network.variables)
  return tuple((jax.tree_util.keystr(path), np.shape(leaf)[skip:]) for path, leaf in leaves)
