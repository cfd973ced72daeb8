"""Objectives with Dirichlet outputs: values and gradients against float64, extremes, logs."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats
from references import (
  B,
  check,
  check_finite,
  logits,
  numerical_gradient,
  softmax_64,
  value_and_gradient,
)

from ensdistill import families, objectives
from ensdistill.objectives import classification

CLASSES = [3, 10, 100, 1000]
TEMPERATURES = [1.0, 2.5, 4.0, 10.0]
categorical = families.categorical
psi, lgamma = scipy.special.digamma, scipy.special.gammaln
REVERSE = functools.partial(classification.proxy_dirichlet_loss, form='reverse')
FORWARD = functools.partial(classification.proxy_dirichlet_loss, form='forward')


def dirichlet_64(z, t, temperature, smoothing=1e-3):
  """Return the value of `dirichlet` and its gradient, derived by hand."""
  alpha = np.exp(z[:, 0].astype(np.float64) / temperature)
  alpha_0, classes = alpha.sum(-1, keepdims=True), alpha.shape[-1]
  pi = (1 - smoothing) * (softmax_64(t, temperature) - 1 / classes) + 1 / classes
  mean_log = np.log(pi).mean(1)
  loss = lgamma(alpha).sum(-1) - lgamma(alpha_0[:, 0]) - ((alpha - 1) * mean_log).sum(-1)
  gradient = temperature * alpha * (psi(alpha) - psi(alpha_0) - mean_log)
  return temperature**2 * loss.mean(), gradient[:, None] / B


def proxy_64(z, t, form):
  """Return the value of `proxy_dirichlet` and its gradient, derived by hand."""
  e = np.exp(z[:, 0].astype(np.float64))
  alpha, pi_m = e + 1, softmax_64(t)
  pi, classes = pi_m.mean(1), e.shape[-1]
  mkl = (pi[:, None] * np.log(pi[:, None] / pi_m)).sum(-1).mean(1, keepdims=True)
  beta_0 = (classes - 1) / (2 * mkl)
  beta, total = pi * beta_0 + 1, beta_0 + classes
  alpha_0 = alpha.sum(-1, keepdims=True)

  def trigamma(a):
    return scipy.special.polygamma(1, a)

  if form == 'forward':  # KL = -H[Dir(beta)] - E_beta ln Dir(.; alpha)
    entropy = np.array([scipy.stats.dirichlet.entropy(b) for b in beta])
    log_means = psi(beta) - psi(total)
    log_norm = lgamma(alpha_0[:, 0]) - lgamma(alpha).sum(-1)
    loss = -entropy - log_norm - ((alpha - 1) * log_means).sum(-1)
    gradient = psi(alpha) - psi(alpha_0) - log_means
  else:
    entropy = np.array([scipy.stats.dirichlet.entropy(a) for a in alpha])
    loss = -(pi * (psi(alpha) - psi(alpha_0))).sum(-1) - entropy / total[:, 0]
    d_entropy = (alpha_0 - classes) * trigamma(alpha_0) - (alpha - 1) * trigamma(alpha)
    gradient = trigamma(alpha_0) - pi * trigamma(alpha) - d_entropy / total
  return loss.mean(), (gradient * e)[:, None] / B


@pytest.mark.parametrize('classes', CLASSES)
@pytest.mark.parametrize('temperature', TEMPERATURES)
def test_dirichlet_agrees_with_float64(classes, temperature):
  z, t = logits(classes)[:, :1], logits(classes, 1)
  check(objectives.dirichlet, z, t, *dirichlet_64(z, t, temperature), temperature, 1e-3)


@pytest.mark.parametrize('classes', CLASSES)
@pytest.mark.parametrize('form', ['reverse', 'forward'])
def test_proxy_dirichlet_agrees_with_its_definition(classes, form):
  z, t = logits(classes, members=1), logits(classes, 1)
  check(objectives.proxy_dirichlet, z, t, *proxy_64(z, t, form), form=form)


@pytest.mark.parametrize(
  'value_64,setting', [(dirichlet_64, 2.5), (proxy_64, 'reverse'), (proxy_64, 'forward')]
)
def test_gradients_by_hand_agree_with_finite_differences(value_64, setting):
  z, t = logits(3).astype(np.float64)[:, :1], logits(3, 1)
  gradient = numerical_gradient(lambda z: value_64(z, t, setting)[0], z)
  np.testing.assert_allclose(value_64(z, t, setting)[1], gradient, rtol=1e-6, atol=1e-8)


def test_dirichlet_is_scipys_log_density():
  z, t, temperature = logits(10, members=1), logits(10, 1), 2.5
  pi = 0.99 * softmax_64(t, temperature) + 0.01 / 10
  alpha = np.exp(z[:, 0].astype(np.float64) / temperature)
  expected = -np.mean(
    [[scipy.stats.dirichlet.logpdf(p, a) for p in members] for members, a in zip(pi, alpha)]
  )
  value, _ = value_and_gradient(objectives.dirichlet)(z, t, temperature, 0.01)
  np.testing.assert_allclose(value, temperature**2 * expected, rtol=1e-5)


@pytest.mark.parametrize('precision', [1e4, 1e6])
def test_a_runaway_precision_costs_the_dirichlet_no_digits(precision):
  # Members that agree: lnGamma(alpha_0) is 1e7 and the loss -100, lost in the textbook's form.
  t = logits(10, 1, members=1) + logits(10, 2, scale=1e-2)
  z = (t.mean(1, keepdims=True) + np.log(precision)).astype(np.float32)
  value, gradient = dirichlet_64(z, t, 1.0)
  # log pi itself, in float32, is no closer than 2e-7 to members that lie 1e-2 apart.
  check(objectives.dirichlet, z, t, value, gradient, 1.0, 1e-3, rtol=1e-4)


@pytest.mark.parametrize(
  'loss,temperatures',
  [(classification.dirichlet_loss, [(1.0,), (10.0,)]), (REVERSE, [()]), (FORWARD, [()])],
  ids=['dirichlet', 'reverse', 'forward'],
)
def test_extreme_logits_give_finite_losses_logs_and_gradients(loss, temperatures):
  check_finite(loss, categorical, 1, temperatures)


def test_a_student_of_several_members_is_refused():
  with pytest.raises(ValueError, match='student of one member, not 4'):
    objectives.dirichlet(logits(10), logits(10))


def test_dirichlets_temperature_is_held_then_falls_to_one_and_stays():
  schedule = objectives.make('dirichlet').schedule
  epochs = np.array([0, 15, 30, 45, 60, 75, 89]) / 90
  values = [float(schedule(jnp.float32(p))['temperature']) for p in epochs]
  np.testing.assert_allclose(values, [10, 10, 10, 5.5, 1, 1, 1], rtol=1e-5)
  schedule = objectives.make('dirichlet', temperature=3.0, held=0.5, end=0.5).schedule
  assert [float(schedule(p)['temperature']) for p in (0.4, 0.6)] == [3, 1]
  assert objectives.make('members').schedule(0.5) == {}


def test_every_term_is_logged_and_the_terms_add_up_to_the_loss():
  z, t = logits(10, members=1), logits(10, 1)
  z[0, 0, 0] = 700.0
  for name, terms in (('dirichlet', ('fit', 'rest')), ('proxy_dirichlet', ('fit', 'rest'))):
    values = {'temperature': 10.0} if name == 'dirichlet' else {}
    loss = functools.partial(objectives.make(name).loss, categorical)
    loss_B, logs = jax.jit(loss)(z, t, **values)
    assert loss_B.shape == (B,)
    np.testing.assert_allclose(sum(logs[term] for term in terms), loss_B, rtol=1e-5)
    np.testing.assert_allclose(logs['clipped'], 1 / z.size, rtol=1e-6)
    alpha = np.exp(z[1:, 0].astype(np.float64)) + (name == 'proxy_dirichlet')
    np.testing.assert_allclose(logs['log_precision'][1:], np.log(alpha.sum(-1)), rtol=1e-5)
    p = alpha / alpha.sum(-1, keepdims=True)
    data = (p * (psi(alpha.sum(-1, keepdims=True) + 1) - psi(alpha + 1))).sum(-1)
    knowledge = scipy.stats.entropy(p, axis=-1) - data
    np.testing.assert_allclose(logs['knowledge'][1:], knowledge, rtol=1e-4)
  p = softmax_64(t)
  knowledge = scipy.stats.entropy(p.mean(1), axis=-1) - scipy.stats.entropy(p, axis=-1).mean(1)
  np.testing.assert_allclose(logs['teacher_knowledge'], knowledge, rtol=1e-4)


def test_the_proxys_alpha_is_exp_z_plus_one_at_inference_too():
  z, labels = logits(10, members=1), jnp.array([3, 1, -1, 0, 9])
  objective = objectives.make('proxy_dirichlet')
  alpha = np.exp(z[:, 0].astype(np.float64)) + 1
  probs = alpha / alpha.sum(-1, keepdims=True)
  predicted = objective.predictive(categorical, z)
  np.testing.assert_allclose(jnp.exp(predicted.log_probs()), probs, rtol=1e-5)
  np.testing.assert_allclose(jnp.exp(predicted.log_alpha_BK), alpha, rtol=1e-5)
  expected = np.where(labels >= 0, -np.log(probs[np.arange(B), labels]), 0)
  np.testing.assert_allclose(objective.label_loss(categorical, z, labels), expected, rtol=1e-5)


def test_members_that_agree_have_the_proxy_precision_of_the_authors_epsilon():
  t = np.repeat(logits(10, 1, members=1), 4, 1)
  _, logs = objectives.make('proxy_dirichlet').loss(categorical, logits(10, members=1), t)
  np.testing.assert_allclose(logs['target_log_precision'], np.log(9 / 2**-23), rtol=1e-6)


def test_prior_network_is_the_reverse_kl_to_its_targets():
  z, labels = logits(5, members=1), np.array([0, 2, -1, 4, -1])
  alpha = np.exp(z[:, 0].astype(np.float64))
  target = 1 + 100.0 * (np.arange(5) == labels[:, None])
  log_means = psi(alpha) - psi(alpha.sum(-1, keepdims=True))
  log_norm = lgamma(target.sum(-1)) - lgamma(target).sum(-1)
  entropy = np.array([scipy.stats.dirichlet.entropy(a) for a in alpha])
  kl = -entropy - log_norm - ((target - 1) * log_means).sum(-1)
  expected = kl * np.where(labels < 0, 0.5, 1)
  objective = objectives.make('prior_network', aux_weight=0.5)
  assert objective.loss is None
  loss = jax.jit(functools.partial(objective.label_loss, categorical))
  np.testing.assert_allclose(loss(z, labels), expected, rtol=1e-5)
  np.testing.assert_allclose(loss(np.log(target)[:, None], labels), 0, atol=1e-4)


def test_prior_network_is_finite_for_extreme_logits():
  labels = jnp.array([0, 1, 2, -1, -1])
  step = jax.jit(jax.value_and_grad(objectives.prior_network))
  for z in (100.0, -100.0, 100 * np.sign(logits(10, members=1))):
    value, gradient = step(jnp.full((B, 1, 10), z, jnp.float32), labels)
    assert jnp.isfinite(value) and jnp.isfinite(gradient).all()


def test_a_prior_network_needs_a_label_for_each_example():
  with pytest.raises(ValueError, match=r'labels have shape \(4, 3\), logits \(4, 1, 3\)'):
    objectives.prior_network(jnp.zeros((4, 3)), jnp.zeros((4, 3), jnp.int32))
