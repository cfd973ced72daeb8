"""Predictive distributions of regressors against scipy, and in float32's limits."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special, stats

from ensdistill import predictive


def targets(seed):
  return np.random.default_rng(seed).normal(0, 3, (16, 2)).astype(np.float32)


def gaussians(seed, batch=16, members=4, targets=2):
  rng = np.random.default_rng(seed)
  mean_BMD = rng.normal(0, 2, (batch, members, targets)).astype(np.float32)
  log_var_BMD = rng.normal(-1, 1, (batch, members, targets)).astype(np.float32)
  return predictive.GaussianMixture(jnp.asarray(mean_BMD), jnp.asarray(log_var_BMD))


def test_gaussian_mixture_against_scipy():
  p, y_BD = gaussians(0), targets(1)
  mean_BMD, std_BMD = np.float64(p.mean_BMD), np.exp(np.float64(p.log_var_BMD) / 2)
  log_p_BM = stats.norm.logpdf(y_BD[:, None], mean_BMD, std_BMD).sum(-1)
  np.testing.assert_allclose(
    p.log_prob(y_BD), special.logsumexp(log_p_BM, 1) - np.log(4), rtol=1e-5, atol=1e-5
  )
  data_BD, knowledge_BD = (std_BMD**2).mean(1), mean_BMD.var(1)
  np.testing.assert_allclose(p.mean(), mean_BMD.mean(1), atol=1e-6)
  np.testing.assert_allclose(p.variance(), data_BD + knowledge_BD, rtol=1e-5)
  np.testing.assert_allclose(p.data(), data_BD.sum(-1), rtol=1e-5)
  np.testing.assert_allclose(p.knowledge(), knowledge_BD.sum(-1), rtol=1e-5)
  np.testing.assert_allclose(p.total(), p.data() + p.knowledge(), rtol=1e-6)


def test_gaussian_mixture_of_one_member_is_certain_of_its_mean():
  p = gaussians(2, members=1)
  assert (p.knowledge() == 0).all()


def normal_wishart(seed, batch=16, targets=2, low=-3.0, high=3.0):
  rng = np.random.default_rng(seed)
  fields = [rng.normal(0, 1, (batch, targets)) for _ in range(2)]
  fields += [rng.uniform(low, high, (batch, targets)) for _ in range(2)]
  return predictive.NormalWishart(*(jnp.asarray(a, jnp.float32) for a in fields))


def student(p):
  """Return scipy's Student t with Malinin et al.'s parameters: 1 / L = (nu - 2) exp(log_var)."""
  log_var, log_kappa, log_dof = (
    np.float64(a) for a in (p.log_var_BD, p.log_kappa_BD, p.log_dof_BD)
  )
  nu, kappa = 2 + np.exp(log_dof), np.exp(log_kappa)
  inverse_l = (nu - 2) * np.exp(log_var)
  return stats.t(nu, np.float64(p.mean_BD), np.sqrt((kappa + 1) / (kappa * nu) * inverse_l))


def test_normal_wishart_predictive_against_scipy():
  p, y_BD = normal_wishart(0), targets(1)
  t = student(p)
  np.testing.assert_allclose(p.log_prob(y_BD), t.logpdf(y_BD).sum(-1), rtol=1e-5, atol=1e-5)
  np.testing.assert_allclose(p.variance(), t.var(), rtol=1e-5)


def test_normal_wishart_is_the_mixture_of_its_draws():
  p = predictive.NormalWishart(*(jnp.full((1, 1), v) for v in (0.3, -0.5, 1.0, 2.0)))
  nu, kappa, data = 2 + np.exp(2.0), np.exp(1.0), np.exp(-0.5)
  rng = np.random.default_rng(2)
  precision = rng.gamma(nu / 2, 2 / ((nu - 2) * data), 400_000)
  mean = rng.normal(0.3, 1 / np.sqrt(kappa * precision))
  np.testing.assert_allclose(p.data(), (1 / precision).mean(), rtol=0.01)
  np.testing.assert_allclose(p.knowledge(), mean.var(), rtol=0.01)
  density = stats.norm.pdf(1.1, mean, precision**-0.5).mean()
  np.testing.assert_allclose(np.exp(p.log_prob(jnp.full((1, 1), 1.1))), density, rtol=0.01)


def test_normal_wishart_density_against_scipy():
  p, members = normal_wishart(3), gaussians(4)
  nu, kappa = 2 + np.exp(np.float64(p.log_dof_BD)), np.exp(np.float64(p.log_kappa_BD))
  rate = (nu - 2) * np.exp(np.float64(p.log_var_BD)) / 2
  log_var_BMD = np.float64(members.log_var_BMD)
  normal = stats.norm.logpdf(
    np.float64(members.mean_BMD),
    np.float64(p.mean_BD)[:, None],
    np.sqrt(np.exp(log_var_BMD) / kappa[:, None]),
  )
  gamma = stats.gamma.logpdf(np.exp(-log_var_BMD), nu[:, None] / 2, scale=1 / rate[:, None])
  ours = p.log_density(members.mean_BMD, members.log_var_BMD)
  np.testing.assert_allclose(ours, (normal + gamma).sum(-1), rtol=1e-5, atol=1e-4)


def test_normal_wishart_in_double_precision_to_nine_digits():
  """The density that is trained and the Student's t, without float32's rounding."""
  rng = np.random.default_rng(4)
  fields = (rng.normal(0, 1, (16, 1)) for _ in range(2)), rng.uniform(-3, 4, (2, 16, 1))
  p = predictive.NormalWishart(*fields[0], *fields[1])
  mu_BMD, log_var_BMD, y_BD = *rng.normal(0, 1, (2, 16, 4, 1)), rng.normal(0, 2, (16, 1))
  with jax.enable_x64(True):
    density, log_prob = p.log_density(mu_BMD, log_var_BMD), p.log_prob(y_BD)
  half = np.exp(p.log_dof_BD) / 2  # nu / 2 - 1
  shape, rate = half + 1, half * np.exp(p.log_var_BD)  # of the precision's Gamma
  gamma = stats.gamma.logpdf(np.exp(-log_var_BMD), shape[:, None], scale=1 / rate[:, None])
  std_BMD = np.exp((log_var_BMD - p.log_kappa_BD[:, None]) / 2)
  normal = stats.norm.logpdf(mu_BMD, p.mean_BD[:, None], std_BMD)
  np.testing.assert_allclose(density, (gamma + normal).sum(-1), rtol=1e-9, atol=1e-9)
  np.testing.assert_allclose(log_prob, student(p).logpdf(y_BD).sum(-1), rtol=1e-9, atol=1e-9)


@jax.jit
@partial(jax.value_and_grad, argnums=(0, 1))
def nll_and_gradients(log_kappa, log_dof):
  fields = (jnp.full((1, 1), v) for v in (0.3, -0.5, log_kappa, log_dof))
  return -predictive.NormalWishart(*fields).log_prob(jnp.full((1, 1), 0.8))[0]


@pytest.mark.parametrize('log_dof', [-60.0, -10.0, 10.0, 30.0, 60.0])
@pytest.mark.parametrize('log_kappa', [-60.0, 0.0, 60.0])
def test_normal_wishart_at_the_ends(log_dof, log_kappa):
  """Finite values and gradients; as nu grows the Student's t becomes the normal."""
  value, gradients = nll_and_gradients(log_kappa, log_dof)
  assert np.isfinite([value, *gradients]).all()
  if log_dof >= 30 and log_kappa >= 0:
    std = np.exp(-0.25) * np.sqrt(1 + np.exp(-log_kappa))
    np.testing.assert_allclose(value, -stats.norm.logpdf(0.8, 0.3, std), rtol=1e-5)


@pytest.mark.parametrize('make', [gaussians, normal_wishart])
def test_units_of_regression(make):
  p = make(5)
  scale, shift = np.array([3.0, 0.1]), np.array([-1.0, 20.0])
  moved, y_BD = p.in_units(shift, scale), targets(6)
  np.testing.assert_allclose(moved.mean(), p.mean() * scale[None] + shift[None], rtol=1e-5)
  np.testing.assert_allclose(moved.variance(), p.variance() * scale[None] ** 2, rtol=1e-5)
  np.testing.assert_allclose(
    moved.log_prob(y_BD * scale[None] + shift[None]),
    p.log_prob(y_BD) - np.log(scale).sum(),
    rtol=1e-4,
    atol=1e-4,
  )
