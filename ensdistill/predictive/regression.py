"""Predictive distributions of regressors: a mixture of Gaussians, or a Normal-Wishart's Student-t.

Uncertainties are variances, by the law of total variance: total = data (the expected variance of
the noise) + knowledge (the variance of the mean). Over several targets they are summed.

The classes here hold what training, validation and export compute: float32, under jit, with
gradients. Quantiles, cumulative distributions, CRPS and entropies are metrics: the classes of
`ensdistill.metrics.distributions` compute them on the host in float64.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import gammaln, logsumexp

from ensdistill.predictive.pytree import distribution, gap

_LOG_2PI = math.log(2 * math.pi)


class _Regressor:
  """Sums over targets, and units of targets, of both predictive distributions."""

  family = 'gaussian'

  def mean(self):
    """Return the mean of the prediction, [B, D]."""
    raise NotImplementedError

  def _data_BD(self):
    raise NotImplementedError

  def _knowledge_BD(self):
    raise NotImplementedError

  def affine(self, scale_D, shift_D):
    """Return the distribution of scale * y + shift."""
    raise NotImplementedError

  @jax.jit
  def variance(self):
    """Return the variance of the prediction, [B, D]."""
    return self._data_BD() + self._knowledge_BD()

  @jax.jit
  def total(self):
    """Return the total variance, summed over targets: [B]."""
    return self.variance().sum(-1)

  @jax.jit
  def data(self):
    """Return the expected variance of the noise, summed over targets: [B]."""
    return self._data_BD().sum(-1)

  @jax.jit
  def knowledge(self):
    """Return the variance of the mean, total - data, summed over targets: [B]."""
    return self._knowledge_BD().sum(-1)

  def in_units(self, mean, std):
    """Return the distribution of targets in their own units, given that of standardised ones."""
    return self.affine(std, mean)


@distribution
class GaussianMixture(_Regressor):
  """Gaussian predictions of members, equally weighted; targets independent within a member."""

  mean_BMD: jax.Array
  log_var_BMD: jax.Array

  def mean(self):
    return self.mean_BMD.mean(1)

  def _data_BD(self):
    return jnp.exp(self.log_var_BMD).mean(1)

  def _knowledge_BD(self):
    return self.mean_BMD.var(1)

  @jax.jit
  def log_prob(self, y_BD):
    """Return the joint log density of all targets: [B]."""
    z_BMD = (y_BD[:, None] - self.mean_BMD) * jnp.exp(-self.log_var_BMD / 2)
    log_p_BM = -0.5 * (z_BMD**2 + self.log_var_BMD + _LOG_2PI).sum(-1)
    return logsumexp(log_p_BM, 1) - math.log(log_p_BM.shape[1])

  def affine(self, scale_D, shift_D):
    scale_D, shift_D = (np.broadcast_to(a, self.mean_BMD.shape[-1:]) for a in (scale_D, shift_D))
    return GaussianMixture(
      self.mean_BMD * scale_D[None, None] + shift_D[None, None],
      self.log_var_BMD + 2 * np.log(np.abs(scale_D))[None, None],
    )


def log_gamma_ratio(x):
  """Return log Gamma(x + 1/2) - log Gamma(x), x > 0: recurrence to x + 8, Stirling's series."""

  def factor(i):
    return jnp.log1p(-0.5 / (x + i + 0.5))

  shift = jax.vmap(factor)(np.arange(8, dtype=np.float32)).sum(0)
  r = 1 / (x + 8)
  series = r * (1 / 8 - r**2 * (1 / 192 - r**2 * (1 / 640 - r**2 * 17 / 14336)))
  return shift - jnp.log(r) / 2 - series


def _stirling_rest(n):
  """Return log Gamma(n + 1) - (n log n - n + log(2 pi n) / 2) = 1/(12n) - ..., n > 0."""
  r = 1 / jnp.maximum(n, 8.0)
  series = r * (1 / 12 - r**2 * (1 / 360 - r**2 * (1 / 1260 - r**2 / 1680)))
  few = jnp.minimum(n, 8.0)
  direct = gammaln(few + 1) - few * jnp.log(few) + few - (_LOG_2PI + jnp.log(few)) / 2
  return jnp.where(n > 8, series, direct)


@distribution
class NormalWishart(_Regressor):
  """A Normal-Wishart over Gaussians, for each target alone (Regression Prior Networks, 2020).

  NW(mu, Lambda | m, L, kappa, nu) = N(mu | m, 1 / (kappa Lambda)) W(Lambda | L, nu) in one
  dimension, where W is a Gamma of shape nu / 2 and rate 1 / (2 L). Its parameters are:
    mean       m
    log_var    log E[1 / Lambda], the data variance: 1 / L = (nu - 2) exp(log_var)
    log_kappa  log of the observations that the mean is worth: the knowledge variance is
               exp(log_var - log_kappa)
    log_dof    log(nu - 2), so that nu > 2 and every variance exists
  These are four free numbers a target; no constraint has to be enforced. The predictive
  distribution is Student's t with nu degrees of freedom and variance exp(log_var) (1 + 1 / kappa).
  Everything is accurate in float32 for log_kappa and log_dof within +-60, log_var within +-30.
  """

  mean_BD: jax.Array
  log_var_BD: jax.Array
  log_kappa_BD: jax.Array
  log_dof_BD: jax.Array

  def mean(self):
    return self.mean_BD

  def nu(self):
    """Return the degrees of freedom of the Wishart and of the Student's t: [B, D]."""
    return 2 + jnp.exp(self.log_dof_BD)

  def log_scale(self):
    """Return the log of the Student's t scale, log sqrt((kappa + 1) / (kappa nu L)): [B, D]."""
    log_total_BD = self.log_var_BD + jax.nn.softplus(-self.log_kappa_BD)
    return (log_total_BD + jax.nn.log_sigmoid(self.log_dof_BD - math.log(2))) / 2

  def _data_BD(self):
    return jnp.exp(self.log_var_BD)

  def _knowledge_BD(self):
    return jnp.exp(self.log_var_BD - self.log_kappa_BD)

  @jax.jit
  def log_prob(self, y_BD):
    """Return the joint log density of all targets: [B]."""
    nu_BD, log_scale_BD = self.nu(), self.log_scale()
    z_BD = (y_BD - self.mean_BD) * jnp.exp(-log_scale_BD)
    log_peak_BD = log_gamma_ratio(nu_BD / 2) - jnp.log(math.pi * nu_BD) / 2 - log_scale_BD
    return (log_peak_BD - (nu_BD + 1) / 2 * jnp.log1p(z_BD**2 / nu_BD)).sum(-1)

  @jax.jit
  def log_density(self, mean_BMD, log_var_BMD):
    """Return the Normal-Wishart's log density at members (mu, Lambda = exp(-log_var)): [B, M].

    The density is written around its own expectations, and Stirling's formula is taken out of the
    Gamma's normaliser, so that nothing cancels as nu grows.
    """
    log_var_BMD = jnp.asarray(log_var_BMD)
    n_B1D = (jnp.exp(self.log_dof_BD) / 2)[:, None]  # shape - 1 of the Gamma
    d_BMD = log_var_BMD - self.log_var_BD[:, None]
    log_wishart_BMD = (
      self.log_var_BD[:, None]
      + (jnp.log(n_B1D) - _LOG_2PI) / 2
      - _stirling_rest(n_B1D)
      - n_B1D * gap(d_BMD)
    )
    log_precision_BMD = self.log_kappa_BD[:, None] - log_var_BMD
    z2_BMD = (mean_BMD - self.mean_BD[:, None]) ** 2 * jnp.exp(log_precision_BMD)
    log_normal_BMD = (log_precision_BMD - _LOG_2PI - z2_BMD) / 2
    return (log_wishart_BMD + log_normal_BMD).sum(-1)

  def affine(self, scale_D, shift_D):
    scale_D, shift_D = (np.broadcast_to(a, self.mean_BD.shape[-1:]) for a in (scale_D, shift_D))
    return NormalWishart(
      self.mean_BD * scale_D[None] + shift_D[None],
      self.log_var_BD + 2 * np.log(np.abs(scale_D))[None],
      self.log_kappa_BD,
      self.log_dof_BD,
    )
