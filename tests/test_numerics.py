import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats

from ensdistill import numerics


def dirichlet_kl_64(a, b):
  """KL(Dir(a) || Dir(b)) = -H[Dir(a)] - E[ln Dir(pi; b)], in float64 by scipy's entropy."""
  log_means = scipy.special.digamma(a) - scipy.special.digamma(a.sum())
  log_norm = scipy.special.gammaln(b.sum()) - scipy.special.gammaln(b).sum()
  return -scipy.stats.dirichlet.entropy(a) - log_norm - ((b - 1) * log_means).sum()


def log_concentrations(seed, low, high, shape=(16, 10)):
  return np.random.default_rng(seed).uniform(low, high, shape).astype(np.float32)


def test_log_softmax_agrees_with_float64():
  z = np.random.default_rng(0).normal(size=(50, 100)).astype(np.float32) * 20
  expected = scipy.special.log_softmax(z.astype(np.float64), -1)
  np.testing.assert_allclose(jax.jit(numerics.log_softmax)(z), expected, rtol=1e-6)


def test_log_softmax_keeps_the_largest_entry_and_its_gradient_when_confident():
  z = jnp.array([0.0, -55.0, -56.0])
  others = np.exp([-55.0, -56.0]).sum()
  np.testing.assert_allclose(jax.jit(numerics.log_softmax)(z)[0], -others, rtol=1e-6)
  gradient = jax.jit(jax.grad(lambda z: numerics.log_softmax(z)[0]))(z)
  np.testing.assert_allclose(gradient, [others, *-np.exp([-55.0, -56.0])], rtol=1e-6)


def test_log_softmax_of_ties_has_the_softmax_gradient():
  gradient = jax.jit(jax.jacobian(numerics.log_softmax))(jnp.zeros(4))
  np.testing.assert_allclose(gradient, np.eye(4) - 0.25, atol=1e-7)


def test_divergence_terms_are_positive_and_exact_near_equality():
  rng = np.random.default_rng(1)
  z = rng.normal(size=(200, 10)).astype(np.float32)
  divergence_terms = jax.jit(numerics.divergence_terms)
  for gap in (1e-3, 0.1, 1, 30):
    log_p = scipy.special.log_softmax(z.astype(np.float64), -1)
    log_q = scipy.special.log_softmax(z.astype(np.float64) + gap * rng.normal(size=z.shape), -1)
    terms = divergence_terms(log_p.astype(np.float32), log_q.astype(np.float32))
    expected = (np.exp(log_p) * (log_p - log_q)).sum(-1)
    assert (terms >= 0).all()
    np.testing.assert_allclose(terms.sum(-1), expected, rtol=2e-3 if gap == 1e-3 else 1e-5)


def test_gamma_rests_agree_with_float64_and_so_do_their_derivatives():
  log_a = np.linspace(-15, 10, 4001).astype(np.float32)
  z = log_a.astype(np.float64)
  a = np.exp(z)
  rest = scipy.special.gammaln(a) - a * (z - 1)
  psi_rest = scipy.special.digamma(a) - z
  np.testing.assert_allclose(jax.jit(numerics.log_gamma_rest)(log_a), rest, rtol=1e-6, atol=1.5e-6)
  np.testing.assert_allclose(jax.jit(numerics.digamma_rest)(log_a), psi_rest, rtol=3e-6, atol=1e-9)
  derivative = jax.jit(jax.vmap(jax.grad(numerics.log_gamma_rest)))(log_a)
  np.testing.assert_allclose(derivative, a * psi_rest, rtol=3e-6)
  derivative = jax.jit(jax.vmap(jax.grad(numerics.digamma_rest)))(log_a)
  expected = a * scipy.special.polygamma(1, a) - 1
  close = np.abs(log_a) < 5  # beyond, the reference itself cancels
  np.testing.assert_allclose(derivative[close], expected[close], rtol=1e-5)


@pytest.mark.parametrize('log_a', [-60.0, 60.0])
def test_gamma_rests_have_their_limits_at_the_clip(log_a):
  # lnGamma(a) -> -ln a and psi(a) -> -1/a for small a; for large a Stirling's first terms.
  rest = 60.0 if log_a < 0 else 0.5 * (np.log(2 * np.pi) - 60)
  psi_rest = -np.exp(60.0) if log_a < 0 else -0.5 * np.exp(-60.0)
  np.testing.assert_allclose(jax.jit(numerics.log_gamma_rest)(jnp.float32(log_a)), rest, rtol=1e-6)
  np.testing.assert_allclose(
    jax.jit(numerics.digamma_rest)(jnp.float32(log_a)), psi_rest, rtol=1e-6
  )
  gradient = jax.jit(jax.grad(numerics.digamma_rest))(jnp.float32(log_a))
  np.testing.assert_allclose(gradient, -psi_rest, rtol=1e-6)


@pytest.mark.parametrize('low,high', [(-3, 3), (0, 12), (8, 14)])
def test_dirichlet_entropy_and_log_means_agree_with_scipy(low, high):
  log_a = log_concentrations(2, low, high)
  a = np.exp(log_a.astype(np.float64))
  expected = [scipy.stats.dirichlet.entropy(row) for row in a]
  np.testing.assert_allclose(jax.jit(numerics.dirichlet_entropy)(log_a), expected, rtol=1e-5)
  expected = scipy.special.digamma(a) - scipy.special.digamma(a.sum(-1, keepdims=True))
  np.testing.assert_allclose(jax.jit(numerics.dirichlet_log_means)(log_a), expected, rtol=1e-5)


@pytest.mark.parametrize('low,high', [(-3, 3), (0, 12), (8, 14)])
def test_dirichlet_kl_agrees_with_its_definition(low, high):
  log_a, log_b = log_concentrations(3, low, high), log_concentrations(4, low, high)
  expected = [
    dirichlet_kl_64(a, b)
    for a, b in zip(np.exp(log_a.astype(np.float64)), np.exp(log_b.astype(np.float64)))
  ]
  np.testing.assert_allclose(jax.jit(numerics.dirichlet_kl)(log_a, log_b), expected, rtol=1e-5)


def test_dirichlet_kl_of_equal_ones_is_zero_with_zero_gradient():
  log_a = jnp.asarray(log_concentrations(5, -2, 12))
  np.testing.assert_allclose(jax.jit(numerics.dirichlet_kl)(log_a, log_a), 0, atol=2e-5)
  gradient = jax.jit(jax.grad(lambda log_b: numerics.dirichlet_kl(log_a, log_b).sum()))(log_a)
  np.testing.assert_allclose(gradient, 0, atol=1e-5)
