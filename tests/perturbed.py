"""Two-layer networks and their gradients in float64, for tests of perturbations."""

import jax
import jax.numpy as jnp
import numpy as np
import scipy.special

from ensdistill import families, perturb
from ensdistill.members import Members

B, D, K = 5, 12, 4
OPEN = perturb.Space(-np.inf, np.inf, 1 / 255)
UNIT = perturb.Space(0.0, 1.0, 1 / 255)
categorical, gaussian = families.categorical, families.gaussian


def weights(size, seed=0, scale=1.0, outputs=K):
  """Return two-layer networks x -> tanh(x w1) w2 in float64: w1 [M, D, 16], w2 [M, 16, O]."""
  rng = np.random.default_rng(seed)
  return rng.normal(size=(size, D, 16)), rng.normal(size=(size, 16, outputs)) * scale


def network(parameters, seen=None):
  """Return the same networks as Members; `seen` collects the number of members per call."""
  w1, w2 = (jnp.asarray(w, jnp.float32) for w in parameters)

  def outputs(x, index=None):
    if seen is not None:
      seen.append(None if index is None else len(index))
    a, b = (w1, w2) if index is None else (w1[index], w2[index])
    flat = x.reshape(len(x), -1)
    return jnp.einsum('bmh,mho->bmo', jnp.tanh(jnp.einsum('bd,mdh->bmh', flat, a)), b)

  return Members(len(w1), outputs)


def outputs_64(parameters, member, x):
  w1, w2 = parameters
  return np.tanh(x @ w1[member]) @ w2[member]


def differences(function, x, step=1e-5):
  """Return central differences of function [B] or [B, O] in float64: [D, B] or [D, B, O]."""
  return np.stack(
    [
      (function(x + step * np.eye(D)[d]) - function(x - step * np.eye(D)[d])) / (2 * step)
      for d in range(D)
    ]
  )


def kl_64(p, q):
  log_p, log_q = scipy.special.log_softmax(p, -1), scipy.special.log_softmax(q, -1)
  return (np.exp(log_p) * (log_p - log_q)).sum(-1)


def disagreement_gradient(parameters, i, j, x):
  """Return grad_x KL(p_j || p_i) with p_j held: [B, D], in float64."""
  held = outputs_64(parameters, j, x)
  return differences(lambda x: kl_64(held, outputs_64(parameters, i, x)), x).T


def unit_rows(rows):
  return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def inputs(seed=0):
  return np.random.default_rng(seed).uniform(0.2, 0.8, (B, D)).astype(np.float32)


def apply(perturbation, seed, teacher, student=None, family=categorical, space=OPEN, x=None):
  x = inputs() if x is None else x
  # Not jitted: tests share shapes, so they share the compiled operations.
  return np.asarray(perturbation.apply(jax.random.key(seed), x, teacher, student, family, space))


def steps(perturbation, count, teacher, student=None, family=categorical, space=OPEN, x=None):
  """Return x~ - x for `count` keys, from one program: [count, B, D]."""
  x = inputs() if x is None else x

  def step(key):
    return perturbation.apply(key, x, teacher, student, family, space)

  moved = jax.jit(lambda keys: jax.lax.map(step, keys))(jax.random.split(jax.random.key(0), count))
  return np.asarray(moved, np.float64) - x
