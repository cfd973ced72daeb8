"""Inputs and checks that the tests of objectives share."""

import functools

import jax
import numpy as np
import scipy.special

B, M = 5, 4


def logits(classes, seed=0, members=M, scale=2.0):
  """Draw logits [B, members, classes]."""
  return (np.random.default_rng(seed).normal(size=(B, members, classes)) * scale).astype(np.float32)


def softmax_64(z, temperature=1.0):
  """Return tempered probabilities in float64."""
  return scipy.special.softmax(z.astype(np.float64) / temperature, -1)


@functools.cache
def value_and_gradient(function, **settings):
  """Return the compiled function of a loss's value and gradient."""
  return jax.jit(jax.value_and_grad(functools.partial(function, **settings)))


def check(function, z, t, expected, expected_gradient, *arguments, rtol=1e-5, **settings):
  """Check the value to 1e-5, and the gradient to rtol of its norm and of its largest entry."""
  value, gradient = value_and_gradient(function, **settings)(z, t, *arguments)
  np.testing.assert_allclose(value, expected, rtol=1e-5)
  gradient = np.asarray(gradient, np.float64)
  size = np.linalg.norm(expected_gradient)
  assert np.linalg.norm(gradient - expected_gradient) < rtol * size
  assert np.abs(gradient - expected_gradient).max() < rtol * np.abs(expected_gradient).max()


def extremes(classes):
  """Yield a description and logits of extreme teachers."""
  labels = np.arange(B)[:, None] % classes
  one_hot = np.where(np.arange(classes) == labels, 100.0, -100.0)[:, None]
  random = 100 * np.sign(logits(classes, 3))
  yield 'one-hot members that agree', np.repeat(one_hot, M, 1)
  yield 'one-hot members that differ', np.stack([np.roll(one_hot[:, 0], m, 0) for m in range(M)], 1)
  yield 'identical members', np.repeat(logits(classes, 4, members=1), M, 1)
  yield 'random signs', random


def numerical_gradient(value, z, step=1e-6):
  """Return the gradient of value(z) by central differences."""
  gradient = np.zeros(z.shape)
  for index in np.ndindex(z.shape):
    move = np.zeros(z.shape)
    move[index] = step
    gradient[index] = (value(z + move) - value(z - move)) / (2 * step)
  return gradient


def extreme_pairs(size):
  """Return extreme students and teachers [N, members, 1000], every student with every teacher."""
  teachers = dict(extremes(1000))
  students = [np.full((B, size, 1000), fill) for fill in (100.0, -100.0, 0.0, 59.0, -59.0)]
  students.append(100 * np.sign(logits(1000, 5, size)))
  pairs = [(z, t) for t in teachers.values() for z in [*students, t[:, :size]]]
  return tuple(np.concatenate(side).astype(np.float32) for side in zip(*pairs))


def check_finite(loss, family, size, temperatures):
  """Check that the loss, its logs and its gradient are finite for extreme logits.

  temperatures: arguments of the loss, a tuple each; () is no argument.
  """

  def batch_loss(z, t, *arguments):
    loss_B, logs = loss(family, z, t, *arguments)
    return loss_B.sum(), (loss_B, logs)

  step = jax.jit(jax.value_and_grad(batch_loss, has_aux=True))
  z, t = extreme_pairs(size)
  for arguments in temperatures:
    (_, (loss_B, logs)), gradient = step(z, t, *arguments)
    assert np.isfinite(loss_B).all()
    assert np.isfinite(gradient).all()
    assert all(np.isfinite(value).all() for value in logs.values()), logs
