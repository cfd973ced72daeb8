"""Predictive distributions of classifiers against float64 references, and in float32's limits."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special
from sklearn.utils.extmath import softmax

from ensdistill import families, predictive

QUICK = settings(max_examples=20, deadline=None, derandomize=True)


def logits(seed, *shape, scale=3.0):
  return np.random.default_rng(seed).normal(0, scale, shape)


def log_softmax(z):
  return z - special.logsumexp(z, -1, keepdims=True)


def mixture(z_BMK):
  return predictive.Mixture(families.log_softmax(jnp.asarray(z_BMK, jnp.float32)))


def entropy(p):
  return special.entr(p).sum(-1)


def mixture_uncertainties(z_BMK):
  """Return total, data and knowledge by their definitions, in float64."""
  log_p_BMK = log_softmax(z_BMK.astype(np.float64))
  p_BMK = np.exp(log_p_BMK)
  total_B, data_B = entropy(p_BMK.mean(1)), entropy(p_BMK).mean(1)
  return total_B, data_B, total_B - data_B


def uncertainties(p):
  return p.total(), p.data(), p.knowledge()


def test_mixture_equals_the_definitions():
  z_BMK = logits(0, 16, 4, 5)
  for ours, theirs in zip(uncertainties(mixture(z_BMK)), mixture_uncertainties(z_BMK)):
    np.testing.assert_allclose(ours, theirs, atol=2e-6, rtol=2e-6)
  p_BK = softmax(z_BMK.reshape(-1, 5)).reshape(z_BMK.shape).mean(1)
  np.testing.assert_allclose(mixture(z_BMK).log_probs(), np.log(p_BK), atol=2e-6)


def test_mixture_keeps_digits_where_members_are_confident():
  """All members sure of class 0, with tails of 1e-9: float32's log p_top alone would be zero."""
  z_BMK = logits(1, 16, 4, 5, scale=1.0).astype(np.float32)
  z_BMK[..., 0] += 22
  log_p = log_softmax(z_BMK.astype(np.longdouble))
  log_mean = np.log(np.exp(log_p - log_p.max(1, keepdims=True)).mean(1)) + log_p.max(1)
  log_mean = log_mean - np.log(np.exp(log_mean).sum(-1, keepdims=True))
  total, data = -(np.exp(log_mean) * log_mean).sum(-1), -(np.exp(log_p) * log_p).sum(-1).mean(1)
  assert total.max() < 1e-6
  np.testing.assert_allclose(mixture(z_BMK).total(), total.astype(float), rtol=1e-5)
  np.testing.assert_allclose(mixture(z_BMK).data(), data.astype(float), rtol=1e-5)
  np.testing.assert_allclose(mixture(z_BMK).knowledge(), (total - data).astype(float), rtol=1e-4)


def test_mixture_keeps_digits_where_members_agree():
  z_BMK = logits(2, 16, 1, 5) + logits(3, 16, 4, 5, scale=1e-3)
  z_BMK = z_BMK.astype(np.float32)
  knowledge_B = mixture_uncertainties(z_BMK)[2]
  assert knowledge_B.max() < 1e-6
  np.testing.assert_allclose(mixture(z_BMK).knowledge(), knowledge_B, rtol=3e-3)


def test_mixture_of_certain_members():
  with np.errstate(divide='ignore'):
    log_p_BMK = np.log(np.float32([[[1, 0, 0], [0, 1, 0]], [[1, 0, 0], [1, 0, 0]]]))
  p = predictive.Mixture(jnp.asarray(log_p_BMK))
  np.testing.assert_allclose(p.total(), [np.log(2), 0], atol=1e-7)
  np.testing.assert_allclose(p.data(), [0, 0], atol=1e-7)
  np.testing.assert_allclose(p.knowledge(), [np.log(2), 0], atol=1e-7)


@QUICK
@given(st.integers(0, 10**6), st.sampled_from([(1, 5), (4, 5)]), st.floats(0, 30))
def test_mixture_properties(seed, shape, scale):
  members, classes = shape
  z_BMK = logits(seed, 16, members, classes, scale=scale)
  total, data, knowledge = (np.asarray(a) for a in uncertainties(mixture(z_BMK)))
  assert (knowledge >= 0).all() and (data >= 0).all()
  np.testing.assert_allclose(total, data + knowledge, atol=1e-5)
  assert (total <= np.log(classes) + 1e-5).all() and (knowledge <= np.log(members) + 1e-5).all()
  if members == 1:
    assert (knowledge == 0).all()
  for ours, permuted in zip((total, data, knowledge), uncertainties(mixture(z_BMK[:, ::-1]))):
    np.testing.assert_allclose(ours, permuted, atol=1e-5, rtol=1e-5)


def dirichlet_uncertainties(log_alpha_BK):
  alpha_BK = np.exp(log_alpha_BK.astype(np.float64))
  alpha0_B1 = alpha_BK.sum(-1, keepdims=True)
  p_BK = alpha_BK / alpha0_B1
  data_B = -(p_BK * (special.digamma(alpha_BK + 1) - special.digamma(alpha0_B1 + 1))).sum(-1)
  total_B = entropy(p_BK)
  return total_B, data_B, total_B - data_B


@pytest.mark.parametrize('shift', [-6.0, 0.0, 3.0, 8.0])
def test_dirichlet_equals_the_definitions(shift):
  log_alpha_BK = (logits(4, 16, 5) + shift).astype(np.float32)
  p = predictive.Dirichlet(jnp.asarray(log_alpha_BK))
  for ours, theirs in zip(uncertainties(p), dirichlet_uncertainties(log_alpha_BK)):
    np.testing.assert_allclose(ours, theirs, atol=2e-6, rtol=1e-5)
  np.testing.assert_allclose(p.log_probs(), log_softmax(log_alpha_BK), atol=2e-6)


def test_dirichlet_expectations_by_sampling():
  alpha = np.array([2.0, 0.7, 5.0])
  p = predictive.Dirichlet(jnp.log(jnp.asarray(alpha)[None]))
  draws = np.random.default_rng(5).dirichlet(alpha, 400_000)
  np.testing.assert_allclose(p.data(), entropy(draws).mean(), atol=2e-3)


def test_dirichlet_keeps_digits_of_a_sharp_one():
  """Total and data agree in all float32 digits there; knowledge is (K - 1) / (2 alpha_0)."""
  alpha = np.array([2.0, 3.0, 5.0]) * 1e8
  p = predictive.Dirichlet(jnp.log(jnp.asarray(alpha, jnp.float32)[None]))
  np.testing.assert_allclose(p.knowledge(), 2 / (2 * 1e9), rtol=1e-5)


@pytest.mark.parametrize('shift', [-60.0, 60.0, 200.0])
def test_dirichlet_at_the_ends(shift):
  p = predictive.Dirichlet(jnp.asarray(logits(6, 16, 5) + shift, jnp.float32))
  for value in uncertainties(p):
    assert (np.asarray(value) >= 0).all()
    assert np.isfinite(value).all()
  np.testing.assert_allclose(p.total(), p.data() + p.knowledge(), atol=1e-5)
  flat = p.data() if shift < 0 else p.knowledge()
  np.testing.assert_allclose(flat, 0, atol=1e-6)
