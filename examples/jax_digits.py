"""Distil an ensemble of functions in JAX on the digits, with a perturbation by gradient.

  ensdistill train be_confods_digits --config.teacher.source=examples/jax_digits.py:ensemble \
    --config.augment.crop=0 --workdir=runs/jax
"""

import jax
import jax.numpy as jnp
import optax

from ensdistill import data


def apply(parameters, x):
  """Return logits [B, 10] of images [B, 8, 8, 1]."""
  hidden = jnp.tanh(x.reshape(len(x), -1) @ parameters['w'])
  return hidden @ parameters['v']


def trained(key, x, y, steps: int = 100):
  w, v = jax.random.split(key)
  parameters = {'w': jax.random.normal(w, (64, 64)) / 8, 'v': jax.random.normal(v, (64, 10)) / 8}
  optimizer = optax.adam(1e-2)

  def loss(parameters):
    logits = apply(parameters, x)
    return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()

  def step(carry, _):
    parameters, state = carry
    updates, state = optimizer.update(jax.grad(loss)(parameters), state)
    return (optax.apply_updates(parameters, updates), state), None

  (parameters, _), _ = jax.lax.scan(step, (parameters, optimizer.init(parameters)), None, steps)
  return parameters


def ensemble():
  """Return the function of a member, and the parameters of four members."""
  x, y = data.parts('digits')['train']
  x, y = jnp.asarray(x[:600]), jnp.asarray(y[:600])  # the other 200 are for validation
  return apply, [jax.jit(trained)(jax.random.key(seed), x, y) for seed in range(4)]
