"""Distil an ensemble of functions in JAX on the digits, with a perturbation by gradient.

  python examples/jax_digits.py
  ensdistill train be_confods_digits --config.teacher.source=examples/jax_digits.py:ensemble \
    --config.augment.crop=0 --workdir=runs/jax
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ensdistill import data


def apply(weights, x):
  """Return logits [B, 10] of images [B, 8, 8, 1]."""
  return jnp.tanh(x.reshape(len(x), -1) @ weights['w']) @ weights['v']


def ensemble():
  """Return the function of a member, and the weights of all members on a leading axis."""
  return apply, dict(np.load('jax.npz'))


def trained(key, x, y, steps: int = 100):
  """Return the weights of a member."""
  w, v = jax.random.split(key)
  weights = {'w': jax.random.normal(w, (64, 64)) / 8, 'v': jax.random.normal(v, (64, 10)) / 8}
  optimizer = optax.adam(1e-2)

  def loss(weights):
    logits = apply(weights, x)
    return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()

  def step(carry, _):
    weights, state = carry
    updates, state = optimizer.update(jax.grad(loss)(weights), state)
    return (optax.apply_updates(weights, updates), state), None

  (weights, _), _ = jax.lax.scan(step, (weights, optimizer.init(weights)), None, steps)
  return weights


def main() -> None:
  x, y = data.parts('digits')['train']
  x, y = jnp.asarray(x[:600]), jnp.asarray(y[:600])  # the other 200 are for validation
  members = [jax.jit(trained)(jax.random.key(seed), x, y) for seed in range(4)]
  np.savez('jax.npz', **jax.tree.map(lambda *leaves: np.stack(leaves), *members))


if __name__ == '__main__':
  main()
