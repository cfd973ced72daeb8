"""The only place that applies a network for evaluation.

A `Predictor` gives predictive distributions over sets of any size, in the target's units; `scores`
measures a network on a validation set inside the training program.
"""

import copy
import functools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ensdistill import data, mesh, processes, stopping
from ensdistill.data.images import sizes
from ensdistill.members import Members
from ensdistill.method import Method


class Probabilities(NamedTuple):
  """Predictions of a classifier: JAX arrays in the program, NumPy arrays on the host."""

  probs: Any  # [N, K]
  total: Any  # [N]
  data: Any  # [N]
  knowledge: Any  # [N]
  log_probs: Any  # [N, K]


class Predictor:
  """The predictions of a network, or of an ensemble, over sets of any size.

  A set goes through in blocks of `batch` examples, which all devices share: its size costs no
  device memory, and every set runs the same compiled program. A block that is not full is padded
  with copies of its last example, whose results are dropped. Where several processes share the run,
  each reads its own rows of a block, and all get the results.

  Args:
    predictive: outputs [B, M, O] -> predictive distribution of standardised targets.
    freeze: variables -> Members.
    units: mean and deviation of the targets; (0, 1) for classes.
    batch: examples of a block.
    precision: of matrix products ('default', 'high', 'highest').
  """

  def __init__(
    self,
    predictive: Callable,
    freeze: Callable[[Any], Members],
    *,
    units=(0.0, 1.0),
    batch: int,
    precision: str = 'highest',
  ):
    self._predictive, self._freeze, self._units = predictive, freeze, units
    self._rows = mesh.rounded(batch)  # all devices share a block
    self._mesh = mesh.make(1, self._rows)
    self._batch, self._precision = batch, precision
    self._predict = self._compiled(self._predictive_of)
    self._output = self._compiled(self._outputs_of)
    self._probabilities = self._compiled(self._probabilities_of)

  def __call__(self, variables, x):
    """Return the predictive distribution of a whole set, on the host, in the target's units."""
    return joined(self.blocks(variables, x))

  def blocks(self, variables, x) -> Iterator[Any]:
    """Yield the predictive distributions of one block of a set after the other."""
    for block in self._over(self._predict, variables, x):
      yield block.in_units(*self._units)

  def in_units_of(self, dataset) -> 'Predictor':
    """Return the same predictor, with its compiled programs, for the units of another data set."""
    other = copy.copy(self)
    other._units = dataset.target_mean, dataset.target_std
    return other

  def outputs(self, variables, x) -> np.ndarray:
    """Return the outputs [N, M, O] over a whole set, on the host."""
    return joined(self._over(self._output, variables, x))

  def probabilities(self, variables, x) -> Probabilities:
    """Return a classifier's probabilities and uncertainties over a whole set, from one program."""
    return joined(self._over(self._probabilities, variables, x))

  @property
  def sharding(self):
    """Where the variables lie: on all devices that share a block."""
    return mesh.replicated(self._mesh)

  def forward(self, variables, x):
    """Return the predictive distribution of one batch as a data set stores it; can be traced."""
    return self._predictive_of(variables, data.as_input(x))

  def _predictive_of(self, variables, x):
    return self._predictive(self._outputs_of(variables, x))

  def _probabilities_of(self, variables, x):
    p = self._predictive_of(variables, x)
    log_probs = p.log_probs()
    return Probabilities(jnp.exp(log_probs), p.total(), p.data(), p.knowledge(), log_probs)

  def _outputs_of(self, variables, x):
    return self._freeze(variables).outputs(x)

  def _compiled(self, function: Callable) -> Callable:
    def split(variables, x):
      return function(variables, mesh.split_batch(self._mesh, x))

    return jax.jit(split, out_shardings=mesh.replicated(self._mesh))

  def _over(self, program: Callable, variables, x) -> Iterator[Any]:
    """Yield the results of one block of x, an array or images in files, after the other."""
    variables = mesh.place(variables, self.sharding)
    waiting = []
    for block, size in self._blocks(x):
      stopping.check_together()
      with jax.default_matmul_precision(self._precision):
        waiting.append((program(variables, block), size))
      if len(waiting) == 2:  # the device has the next block before the host looks at this one
        yield _on_host(*waiting.pop(0))
    for result in waiting:
      yield _on_host(*result)

  def _blocks(self, x) -> Iterator[tuple[jax.Array, int]]:
    """Yield the blocks of x, padded and placed, and the number of examples in each."""
    by_row = mesh.by_row(self._mesh)
    if processes.shared() and not processes.alone():
      rows = mesh.own_rows(by_row, self._rows)
      found = data.blocks(x, self._batch, rows)
      if data.stored.in_files(x):
        found = _read_by_all(found)
      for start, own in zip(range(0, len(x), self._batch), found):
        block = mesh.place_rows(sizes.as_dtype(own, np.float32), rows, self._rows, by_row)
        yield block, min(self._batch, len(x) - start)
      return
    for block in data.blocks(x, self._batch):
      padding = [(0, self._rows - len(block))] + [(0, 0)] * (block.ndim - 1)
      padded = np.pad(sizes.as_dtype(block, np.float32), padding, 'edge')
      yield mesh.place(padded, by_row), len(block)


def predictor(method: Method, freeze: Callable, dataset, **settings) -> Predictor:
  """Return the predictor of networks that a method trained on a data set."""
  predictive = functools.partial(method.objective.predictive, method.family)
  units = dataset.target_mean, dataset.target_std
  return Predictor(predictive, freeze, units=units, **settings)


def _read_by_all(blocks: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
  """Yield blocks; an error of reading in one process is raised in all that share the run."""
  while True:
    block, problem = None, None
    try:
      block = next(blocks, None)
    except data.DataError as error:
      problem = str(error)
    for found in processes.each(problem, 'block'):
      if found:
        raise data.DataError(found)
    if block is None:
      return
    yield block


def joined(blocks):
  """Return the results of several blocks as those of one."""
  return jax.tree.map(lambda *parts: np.concatenate(parts), *blocks)


def _on_host(result, size: int):
  return jax.tree.map(lambda leaf: np.asarray(leaf)[:size], result)


def over(function: Callable, x, *, batch: int, device_mesh) -> jax.Array:
  """Apply function(x [batch, ...]) to a set of any size inside a program: [N, ...] -> [N, ...].

  Every example is computed exactly once; the padding of the last block is cut. Blocks are so large
  that the devices divide them.
  """
  size, parts = x.shape[0], device_mesh.shape['data']
  batch = -(-min(batch, size) // parts) * parts
  blocks = -(-size // batch)
  x = jnp.pad(x, [(0, blocks * batch - size)] + [(0, 0)] * (x.ndim - 1), mode='edge')

  def one(block):
    return function(mesh.split_batch(device_mesh, data.as_input(block)))

  y = jax.lax.map(one, x.reshape(blocks, batch, *x.shape[1:]))
  return y.reshape(blocks * batch, *y.shape[2:])[:size]


def scores(method: Method, *, batch: int, device_mesh, units=None) -> Callable:
  """Return score(variables, x, y) -> {name: scalar} of one network, inside a program.

  y is standardised; or in the target's units, where `units` are the mean and deviation of targets.
  """

  def score(variables, x, y):
    student, own = method.student.views(variables)[method.view]

    def outputs_of(x):
      return student.module.apply(own, x)

    outputs = over(outputs_of, x, batch=batch, device_mesh=device_mesh)
    predictive = method.objective.predictive(method.family, outputs)
    return method.family.scores(predictive.in_units(*units) if units else predictive, y)

  return score
