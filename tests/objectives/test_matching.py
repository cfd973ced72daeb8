"""Objectives that match outputs: values and gradients against float64, extremes, regression."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from references import (
  B,
  M,
  check,
  check_finite,
  logits,
  numerical_gradient,
  softmax_64,
  value_and_gradient,
)

from ensdistill import families, objectives
from ensdistill.objectives import matching

CLASSES = [3, 10, 100, 1000]
TEMPERATURES = [1.0, 2.5, 4.0, 10.0]
categorical, gaussian = families.categorical, families.gaussian


def members_64(z, t, temperature):
  """Return the value of `members` and its gradient, derived by hand."""
  p, q = softmax_64(t, temperature), softmax_64(z, temperature)
  value = temperature**2 * (p * np.log(p / q)).sum(-1).mean()
  return value, temperature * (q - p) / (B * z.shape[1])


def mean_64(z, t, temperature):
  """Return the value of `mean` and its gradient, derived by hand."""
  p, q_m = softmax_64(t, temperature).mean(1), softmax_64(z, temperature)
  q = q_m.mean(1)
  value = temperature**2 * (p * np.log(p / q)).sum(-1).mean()
  pull = (-p / q)[:, None] * q_m  # d/dq_m through the mean, then through each softmax
  gradient = pull - q_m * pull.sum(-1, keepdims=True)
  return value, temperature * gradient / (B * z.shape[1])


@pytest.mark.parametrize('classes', CLASSES)
@pytest.mark.parametrize('temperature', TEMPERATURES)
def test_members_and_mean_agree_with_float64(classes, temperature):
  z, t = logits(classes), logits(classes, 1)
  check(objectives.members, z, t, *members_64(z, t, temperature), temperature)
  if classes == 10:  # a mixture on both sides
    check(objectives.mean, z, t, *mean_64(z, t, temperature), temperature)
  z = z[:, :1]
  check(objectives.mean, z, t, *mean_64(z, t, temperature), temperature)


@pytest.mark.parametrize('value_64', [members_64, mean_64])
def test_gradients_by_hand_agree_with_finite_differences(value_64):
  z, t = logits(3).astype(np.float64), logits(3, 1)
  gradient = numerical_gradient(lambda z: value_64(z, t, 2.5)[0], z)
  np.testing.assert_allclose(value_64(z, t, 2.5)[1], gradient, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize(
  'loss,size',
  [(matching.mean_loss, 1), (matching.mean_loss, M), (matching.members_loss, M)],
  ids=['mean', 'mean of members', 'members'],
)
def test_extreme_logits_give_finite_losses_logs_and_gradients(loss, size):
  check_finite(loss, categorical, size, [(1.0,), (10.0,)])


def test_a_student_equal_to_its_teacher_has_nothing_to_learn():
  t = logits(10)
  for function, z in (
    (objectives.members, t),
    (objectives.mean, t[:, ::-1]),  # a mixture has no order
    (objectives.mean, categorical.mixture(t, 2.5)),
  ):
    value, gradient = value_and_gradient(function)(jnp.asarray(z), t, 2.5)
    np.testing.assert_allclose(value, 0, atol=1e-6)
    np.testing.assert_allclose(gradient, 0, atol=1e-6)


def test_one_member_on_each_side_makes_mean_and_members_the_same():
  z, t = logits(10, members=1), logits(10, 1, members=1)
  mean, members = (
    value_and_gradient(f)(z, t, 4.0)[0] for f in (objectives.mean, objectives.members)
  )
  np.testing.assert_allclose(mean, members, rtol=1e-6)


def test_members_refuses_different_sizes_instead_of_broadcasting():
  with pytest.raises(ValueError, match='the student has 1, the teacher 4'):
    objectives.members(logits(10, members=1), logits(10))


def test_mean_and_members_serve_regression():
  z, t = logits(4), logits(4, 1)

  def mean_and_variance(o):
    return (o[..., :2].astype(np.float64), np.exp(o[..., 2:].astype(np.float64)))

  def kl(p, q):
    (m_p, v_p), (m_q, v_q) = p, q
    return (0.5 * (np.log(v_q / v_p) + (v_p + (m_p - m_q) ** 2) / v_q - 1)).sum(-1)

  def mixture(o):
    m, v = mean_and_variance(o)
    return m.mean(1), v.mean(1) + m.var(1)

  for name, expected in (
    ('members', kl(mean_and_variance(t), mean_and_variance(z))),
    ('mean', kl(mixture(t), mixture(z))),
  ):
    loss = functools.partial(getattr(objectives, name), family=gaussian)
    np.testing.assert_allclose(jax.jit(loss)(z, t), expected.mean(), rtol=1e-5)
    with jax.enable_x64(True):  # without float32's rounding
      ours = loss(jnp.asarray(z, jnp.float64), jnp.asarray(t, jnp.float64))
    np.testing.assert_allclose(ours, expected.mean(), rtol=1e-9)


def test_members_log_the_knowledge_of_both_sides():
  z, t = logits(10), logits(10, 1)
  objective = objectives.make('members', temperature=4.0)
  _, logs = jax.jit(functools.partial(objective.loss, categorical))(z, t)
  for name, outputs in (('knowledge', z), ('teacher_knowledge', t)):
    p = softmax_64(outputs)
    expected = scipy.stats.entropy(p.mean(1), axis=-1) - scipy.stats.entropy(p, axis=-1).mean(1)
    np.testing.assert_allclose(logs[name], expected, rtol=1e-4)


def test_the_temperature_of_mean_is_constant_or_falls_to_one():
  z, t = logits(10, members=1), logits(10, 1)
  constant = objectives.make('mean', temperature=10.0)
  assert constant.schedule(0.5) == {}
  falling = objectives.make('mean', temperature=10.0, held=1 / 3, end=2 / 3)
  dirichlet = objectives.make('dirichlet', temperature=10.0)
  for epoch, temperature in ((0, 10), (30, 10), (45, 5.5), (60, 1), (89, 1)):
    values = falling.schedule(epoch / 90)
    np.testing.assert_allclose(values['temperature'], temperature, rtol=1e-5)
    assert values == dirichlet.schedule(epoch / 90)
    loss_B, _ = falling.loss(categorical, z, t, **values)
    expected_B, _ = objectives.make('mean', temperature=float(temperature)).loss(categorical, z, t)
    np.testing.assert_allclose(loss_B, expected_B, rtol=1e-4)
