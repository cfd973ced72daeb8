"""The Normal-Wishart objective against scipy's densities, and for extreme outputs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from references import B, check, extremes, logits, numerical_gradient, value_and_gradient

from ensdistill import families, objectives

gaussian = families.gaussian


def normal_wishart_64(outputs, t):
  """Return -mean log NW(mu_m, Lambda_m), from scipy's normal and gamma densities."""
  m, log_var, log_kappa, log_dof = np.split(outputs[:, :1].astype(np.float64), 4, -1)
  nu = 2 + np.exp(log_dof)
  scale = 1 / ((nu - 2) * np.exp(log_var))  # L
  mu, precision = t[..., :2].astype(np.float64), np.exp(-t[..., 2:].astype(np.float64))
  density = scipy.stats.gamma.logpdf(precision, nu / 2, scale=2 * scale)
  density += scipy.stats.norm.logpdf(mu, m, np.exp(-log_kappa / 2) / np.sqrt(precision))
  return -density.sum(-1).mean()


def test_normal_wishart_is_the_density_of_the_members_and_its_gradient():
  z, t = logits(8, members=1, scale=1.0), logits(4, 1, scale=1.0)
  gradient = numerical_gradient(lambda z: normal_wishart_64(z, t), z)
  check(objectives.normal_wishart, z, t, normal_wishart_64(z, t), gradient)


def test_normal_wishart_recovers_the_distribution_that_its_members_came_from():
  # 4000 members drawn from a Normal-Wishart: the loss is least at its parameters.
  rng = np.random.default_rng(0)
  m, log_var, kappa, dof = 0.5, -0.3, 4.0, 6.0
  precision = rng.gamma((dof + 2) / 2, 2 / (dof * np.exp(log_var)), 4000)
  mu = rng.normal(m, 1 / np.sqrt(kappa * precision))
  t = jnp.float32(np.stack([mu, -np.log(precision)], -1))[None]
  z = jnp.float32([m, log_var, np.log(kappa), np.log(dof)])[None, None]
  gradient = value_and_gradient(objectives.normal_wishart)(z, t)[1]
  np.testing.assert_allclose(gradient, 0, atol=0.06)


def test_normal_wishart_labels_are_scored_by_the_student_t_and_nan_is_none():
  z, y = logits(8, members=1, scale=1.0), logits(2, 1, members=1)[:, 0]
  y[0], y[1, 1] = np.nan, np.nan
  m, log_var, log_kappa, log_dof = np.split(z[:, 0].astype(np.float64), 4, -1)
  nu = 2 + np.exp(log_dof)
  scale = np.sqrt((np.exp(log_kappa) + 1) * (nu - 2) * np.exp(log_var) / (np.exp(log_kappa) * nu))
  density = scipy.stats.t.logpdf(y, nu, m, scale)
  expected = -np.where(np.isnan(y), 0, density).sum(-1)
  objective = objectives.make('normal_wishart', start=0.0)
  loss, pull_back = jax.vjp(jax.jit(lambda z: objective.label_loss(gaussian, z, y)), z)
  np.testing.assert_allclose(loss, expected, rtol=1e-5, atol=1e-6)
  (gradient,) = pull_back(jnp.ones(B))
  assert jnp.isfinite(gradient).all() and (gradient[0] == 0).all()


def test_normal_wishart_is_finite_for_extreme_outputs():
  objective = objectives.make('normal_wishart')

  def loss(z, t, y):
    loss_B, logs = objective.loss(gaussian, z, t)
    return (loss_B + objective.label_loss(gaussian, z, y)).mean(), logs

  step = jax.jit(jax.value_and_grad(loss, has_aux=True))
  y = jnp.full((B, 2), 50.0)
  for z in (np.full((B, 1, 8), 100.0), np.full((B, 1, 8), -100.0), 100 * np.sign(logits(8, 5, 1))):
    for _, t in extremes(4):
      (value, logs), gradient = step(jnp.float32(z), jnp.float32(t), y)
      assert all(jnp.isfinite(x).all() for x in (value, gradient, *logs.values())), logs


def test_a_normal_wisharts_start_is_what_outputs_of_zero_mean():
  zeros, members = np.zeros((2, 1, 4), np.float32), logits(2)[:2]
  shifted = zeros + np.array([0, 0, 3, 3], np.float32)
  with_start, without = (objectives.make('normal_wishart', start=s) for s in (3.0, 0.0))
  assert (with_start.predictive(gaussian, zeros).log_kappa_BD == 3).all()
  for part, *arguments in (('loss', members), ('label_loss', np.ones((2, 1), np.float32))):
    ours = getattr(with_start, part)(gaussian, zeros, *arguments)
    other = getattr(without, part)(gaussian, shifted, *arguments)
    jax.tree.map(np.testing.assert_array_equal, ours, other)
  with pytest.raises(ValueError, match='start=30'):
    objectives.make('normal_wishart', start=30)


def test_a_normal_wishart_begins_with_the_members_mean_and_variance():
  outputs, members = logits(8, members=1), logits(4)
  objective = objectives.make('normal_wishart', held=0.2, end=0.6)

  def share_at(progress):
    return float(objective.schedule(progress)['share'])

  np.testing.assert_allclose(
    [share_at(p) for p in (0, 0.2, 0.4, 0.6, 1)], [0, 0, 0.5, 1, 1], atol=1e-6
  )

  def loss_with(share):
    return objective.loss(gaussian, outputs, members, share=share)[0]

  fit = gaussian.kl(gaussian.mixture(members), outputs[..., :4])[:, 0]
  np.testing.assert_allclose(loss_with(0.0), fit, rtol=1e-6)
  np.testing.assert_allclose(loss_with(0.25), 0.75 * fit + 0.25 * loss_with(1.0), rtol=1e-4)
  with pytest.raises(ValueError, match='held=0.5, end=0.2'):
    objectives.make('normal_wishart', held=0.5, end=0.2)
