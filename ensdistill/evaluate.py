"""A network over a whole data set: its outputs, and the scores that choose a checkpoint."""

import jax
import jax.numpy as jnp
import numpy as np

from ensdistill import data, mesh


def over(function, x, *, batch: int, device_mesh) -> jax.Array:
  """function(x [batch, ...]) over a set of any size, in a compiled program: [N, ...] -> [N, ...].

  Every example is computed exactly once more or less the padding of the last block, which is cut.
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
    return SCORES[method.family.name](predictive, y)

  return score


def _categorical_scores(predictive, labels_B):
  log_probs_BK = predictive.log_probs()
  picked_B = jnp.take_along_axis(log_probs_BK, labels_B[:, None], axis=-1)[:, 0]
  return {'nll': -picked_B.mean(), 'acc': (log_probs_BK.argmax(-1) == labels_B).mean()}


def _gaussian_scores(predictive, y_BD):
  error_BD = predictive.mean() - y_BD
  return {'nll': -predictive.log_prob(y_BD).mean(), 'rmse': jnp.sqrt((error_BD**2).mean())}


SCORES = {'categorical': _categorical_scores, 'gaussian': _gaussian_scores}


def outputs(frozen, x: np.ndarray, *, batch: int, device_mesh, precision: str = 'highest'):
  """Outputs [N, M, O] of `frozen(variables) -> Members` over a set, on the host in float32.

  `frozen` is (function, variables): the variables are arguments of the compiled program.
  """
  members_of, variables = frozen

  @jax.jit
  def compute(variables, x):
    members = members_of(variables)
    return over(members.outputs, x, batch=batch, device_mesh=device_mesh)

  with jax.default_matmul_precision(precision):
    placed = mesh.place((variables, jnp.asarray(x)), mesh.replicated(device_mesh))
    return np.asarray(compute(*placed))
