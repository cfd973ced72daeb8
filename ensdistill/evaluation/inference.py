"""A network over a whole data set: its outputs, and the scores that choose a checkpoint."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ensdistill import data, mesh
from ensdistill.data.images import sizes
from ensdistill.predictive import Mixture


def over(function, x, *, batch: int, device_mesh) -> jax.Array:
  """function(x [batch, ...]) over a set of any size, in a compiled program: [N, ...] -> [N, ...].

  Every example is computed exactly once; the padding of the last block is cut.
  """
  size = x.shape[0]
  batch = min(batch, size)
  blocks = -(-size // batch)
  x = jnp.pad(x, [(0, blocks * batch - size)] + [(0, 0)] * (x.ndim - 1), mode='edge')

  def one(block):
    return function(mesh.split_batch(device_mesh, data.as_input(block)))

  y = jax.lax.map(one, x.reshape(blocks, batch, *x.shape[1:]))
  return y.reshape(blocks * batch, *y.shape[2:])[:size]


def scores(method, view: str, *, batch: int, device_mesh):
  """score(variables, x, y) of one network on a validation set, for `loop.fit`."""

  def score(variables, x, y):
    student, variables = method.student.views(variables)[view]
    outputs = over(
      lambda x: student.module.apply(variables, x), x, batch=batch, device_mesh=device_mesh
    )
    predictive = method.objective.predictive(method.family, outputs)
    return SCORES[method.family.name].function(predictive, y)

  return score


def _categorical_scores(predictive, labels_B):
  log_probs_BK = predictive.log_probs()
  known_B = labels_B >= 0  # what fills up a block has no label
  picked_B = jnp.take_along_axis(log_probs_BK, labels_B[:, None], axis=-1)[:, 0]
  acc = (log_probs_BK.argmax(-1) == labels_B).mean(where=known_B)
  of_members = acc
  if isinstance(predictive, Mixture):
    right_BM = predictive.log_probs_BMK.argmax(-1) == labels_B[:, None]
    of_members = right_BM.mean(where=known_B[:, None])
  return {'nll': -picked_B.mean(where=known_B), 'acc': acc, 'member_acc': of_members}


def _gaussian_scores(predictive, y_BD):
  error_BD = predictive.mean() - y_BD
  return {'nll': -predictive.log_prob(y_BD).mean(), 'rmse': jnp.sqrt((error_BD**2).mean())}


class Scores(NamedTuple):
  """What a validation measures: function(predictive, targets) -> {name: scalar}."""

  names: tuple[str, ...]
  function: Callable


SCORES = {
  'categorical': Scores(('nll', 'acc', 'member_acc'), _categorical_scores),
  'gaussian': Scores(('nll', 'rmse'), _gaussian_scores),
}


class Program:
  """function(variables, x) over sets of any size, compiled once.

  A set goes through in blocks of `batch` examples, so that its size costs no device memory and
  every set runs the same program. The last block is filled up with copies of its last example,
  and what comes of them is cut: no example counts twice.
  """

  def __init__(self, function, *, batch: int, device_mesh, precision: str = 'highest'):
    self._batch, self._mesh, self._precision = batch, device_mesh, precision
    self._call = jax.jit(
      lambda variables, x: function(variables, mesh.split_batch(device_mesh, x)),
      out_shardings=mesh.replicated(device_mesh),
    )

  def blocks(self, variables, x):
    """Results of one stretch of x, an array or images in files, after the other, on the host."""
    variables = mesh.place(variables, mesh.replicated(self._mesh))
    waiting = []
    for block in data.blocks(x, self._batch):
      waiting.append(self._start(variables, block))
      if len(waiting) == 2:  # the device has the next block before the host looks at this one
        yield _on_host(*waiting.pop(0))
    for result in waiting:
      yield _on_host(*result)

  def _start(self, variables, block):
    padding = [(0, self._batch - len(block))] + [(0, 0)] * (block.ndim - 1)
    padded = np.pad(sizes.as_dtype(block, np.float32), padding, 'edge')
    with jax.default_matmul_precision(self._precision):
      placed = mesh.place(padded, mesh.replicated(self._mesh))
      return self._call(variables, placed), len(block)

  def __call__(self, variables, x):
    """Results of the whole set, on the host."""
    return jax.tree.map(lambda *parts: np.concatenate(parts), *self.blocks(variables, x))


def _on_host(result, size: int):
  return jax.tree.map(lambda leaf: np.asarray(leaf)[:size], result)


def in_units(predictive, mean, std):
  """Predictions of regression in the target's own units; of classification as they are."""
  return predictive.affine(std, mean) if hasattr(predictive, 'affine') else predictive


def outputs(frozen, x: np.ndarray, *, batch: int, device_mesh, precision: str = 'highest'):
  """Outputs [N, M, O] of `frozen(variables) -> Members` over a set, on the host in float32.

  `frozen` is (function, variables): the variables are arguments of the compiled program.
  """
  members_of, variables = frozen
  program = Program(
    lambda variables, x: members_of(variables).outputs(x),
    batch=batch,
    device_mesh=device_mesh,
    precision=precision,
  )
  return program(variables, x)
