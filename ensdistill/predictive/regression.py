"""Predictive distributions of regressors: a mixture of Gaussians, or a Normal-Wishart's Student-t.

Uncertainties are variances, by the law of total variance: total = data (the expected variance of
the noise) + knowledge (the variance of the mean). Over several targets they are summed.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import gammaln, logsumexp, ndtr, ndtri

from ensdistill.predictive.pytree import distribution, gap

_BISECTIONS = 40
_LOG_2PI = math.log(2 * math.pi)


def _bisect(cdf, q, low, high):
  """The root of cdf(x) = q between low and high."""

  def halve(_, bounds):
    low, high = bounds
    middle = low + (high - low) / 2
    right = cdf(middle) < q
    return jnp.where(right, middle, low), jnp.where(right, high, middle)

  low, high = jax.lax.fori_loop(0, _BISECTIONS, halve, (low, high))
  return low + (high - low) / 2


class _Regressor:
  """What both regression predictives share: sums over targets, and central intervals."""

  @jax.jit
  def variance(self):
    """Variance of the prediction, [B, D]."""
    return self._data_BD() + self._knowledge_BD()

  @jax.jit
  def total(self):
    """Total variance, summed over targets: [B]."""
    return self.variance().sum(-1)

  @jax.jit
  def data(self):
    """Expected variance of the noise, summed over targets: [B]."""
    return self._data_BD().sum(-1)

  @jax.jit
  def knowledge(self):
    """Variance of the mean, total - data, summed over targets: [B]."""
    return self._knowledge_BD().sum(-1)

  def interval(self, level):
    """The central interval that holds `level` of each target's distribution: low, high [B, D]."""
    return self.quantile((1 - level) / 2), self.quantile((1 + level) / 2)

  def in_units(self, mean, std):
    """Return the distribution of the targets in their own units, from standardised targets."""
    return self.affine(std, mean)


@distribution
class GaussianMixture(_Regressor):
  """Members' Gaussian predictions, equally weighted; targets independent within a member."""

  mean_BMD: jax.Array
  log_var_BMD: jax.Array

  def mean(self):
    """[B, D]."""
    return self.mean_BMD.mean(1)

  def _data_BD(self):
    return jnp.exp(self.log_var_BMD).mean(1)

  def _knowledge_BD(self):
    return self.mean_BMD.var(1)

  @jax.jit
  def log_prob(self, y_BD):
    """Joint log density of all targets: [B]."""
    z_BMD = (y_BD[:, None] - self.mean_BMD) * jnp.exp(-self.log_var_BMD / 2)
    log_p_BM = -0.5 * (z_BMD**2 + self.log_var_BMD + _LOG_2PI).sum(-1)
    return logsumexp(log_p_BM, 1) - math.log(log_p_BM.shape[1])

  @jax.jit
  def cdf(self, y_BD):
    """P(target <= y) of each target: [B, D]."""
    return ndtr((y_BD[:, None] - self.mean_BMD) * jnp.exp(-self.log_var_BMD / 2)).mean(1)

  @jax.jit
  def quantile(self, q):
    """The q-quantile of each target, 0 < q < 1: [B, D]. It lies between its members' quantiles."""
    member_BMD = self.mean_BMD + jnp.exp(self.log_var_BMD / 2) * ndtri(q)
    return _bisect(self.cdf, q, member_BMD.min(1), member_BMD.max(1))

  def affine(self, scale_D, shift_D):
    """The distribution of scale * y + shift: from standardised targets to their own units."""
    scale_D, shift_D = (np.broadcast_to(a, self.mean_BMD.shape[-1:]) for a in (scale_D, shift_D))
    return GaussianMixture(
      self.mean_BMD * scale_D[None, None] + shift_D[None, None],
      self.log_var_BMD + 2 * np.log(np.abs(scale_D))[None, None],
    )


def log_gamma_ratio(x):
  """log Gamma(x + 1/2) - log Gamma(x), x > 0: by recurrence to x + 8, then Stirling's series."""
  shift = jax.vmap(lambda i: jnp.log1p(-0.5 / (x + i + 0.5)))(np.arange(8, dtype=np.float32)).sum(0)
  r = 1 / (x + 8)
  series = r * (1 / 8 - r**2 * (1 / 192 - r**2 * (1 / 640 - r**2 * 17 / 14336)))
  return shift - jnp.log(r) / 2 - series


def _student_cdf(t, df):
  """P(T <= t) of Student's t in float32 arithmetic to about 1e-6, for df >= 2 without a bound.

  Hill's normal transform (Algorithm 395) for df >= 8; below it, the density integrated over
  arctan(t / sqrt(df)). The incomplete beta function loses all digits for large df.
  """
  y2 = jnp.minimum((df - 0.5) * jnp.log1p(t**2 / df), 1e4)  # beyond, the tail is zero anyway
  b = 48 * (df - 0.5) ** 2
  rest = (((-0.4 * y2 - 3.3) * y2 - 24) * y2 - 85.5) / (0.8 * y2**2 + 100 + b)
  hill = ndtr(jnp.sign(t) * jnp.sqrt(y2) * ((rest + y2 + 3) / b + 1))
  few = jnp.minimum(df, 8.0)
  angle = jnp.arctan(t / jnp.sqrt(few))
  nodes, weights = np.polynomial.legendre.leggauss(20)
  part = jax.vmap(lambda x, w: w * jnp.cos(angle * (1 + x) / 2) ** (few - 1))
  area = part(np.float32(nodes), np.float32(weights)).sum(0)
  constant = jnp.exp(log_gamma_ratio(few / 2)) / math.sqrt(math.pi)
  return jnp.where(df >= 8, hill, 0.5 + constant * angle / 2 * area)


def _stirling_rest(n):
  """log Gamma(n + 1) - (n log n - n + log(2 pi n) / 2) = 1/(12n) - ..., n > 0."""
  r = 1 / jnp.maximum(n, 8.0)
  series = r * (1 / 12 - r**2 * (1 / 360 - r**2 * (1 / 1260 - r**2 / 1680)))
  few = jnp.minimum(n, 8.0)
  direct = gammaln(few + 1) - few * jnp.log(few) + few - (_LOG_2PI + jnp.log(few)) / 2
  return jnp.where(n > 8, series, direct)


@distribution
class NormalWishart(_Regressor):
  """A Normal-Wishart over Gaussians, for each target alone (Regression Prior Networks, 2020).

  NW(mu, Lambda | m, L, kappa, nu) = N(mu | m, 1 / (kappa Lambda)) W(Lambda | L, nu) in one
  dimension, where W is a Gamma of shape nu / 2 and rate 1 / (2 L). It is given by what it says:
    mean       m
    log_var    log E[1 / Lambda], the data variance: 1 / L = (nu - 2) exp(log_var)
    log_kappa  observations that the mean is worth: knowledge variance exp(log_var - log_kappa)
    log_dof    log(nu - 2), so that nu > 2 and every variance exists
  Four free numbers a target, each with a meaning of its own, and no constraint to enforce. The
  predictive is Student's t: nu degrees of freedom, variance exp(log_var) (1 + 1 / kappa). All of it
  holds in float32 for log_kappa and log_dof within +-60, log_var within +-30.
  """

  mean_BD: jax.Array
  log_var_BD: jax.Array
  log_kappa_BD: jax.Array
  log_dof_BD: jax.Array

  def mean(self):
    """[B, D]."""
    return self.mean_BD

  def nu(self):
    """Degrees of freedom of the Wishart and of the predictive Student's t: [B, D]."""
    return 2 + jnp.exp(self.log_dof_BD)

  def log_scale(self):
    """Log of the Student's t scale, log sqrt((kappa + 1) / (kappa nu L)): [B, D]."""
    log_total_BD = self.log_var_BD + jax.nn.softplus(-self.log_kappa_BD)
    return (log_total_BD + jax.nn.log_sigmoid(self.log_dof_BD - math.log(2))) / 2

  def _data_BD(self):
    return jnp.exp(self.log_var_BD)

  def _knowledge_BD(self):
    return jnp.exp(self.log_var_BD - self.log_kappa_BD)

  @jax.jit
  def log_prob(self, y_BD):
    """Joint log density of all targets: [B]."""
    nu_BD, log_scale_BD = self.nu(), self.log_scale()
    z_BD = (y_BD - self.mean_BD) * jnp.exp(-log_scale_BD)
    log_peak_BD = log_gamma_ratio(nu_BD / 2) - jnp.log(math.pi * nu_BD) / 2 - log_scale_BD
    return (log_peak_BD - (nu_BD + 1) / 2 * jnp.log1p(z_BD**2 / nu_BD)).sum(-1)

  @jax.jit
  def log_density(self, mean_BMD, log_var_BMD):
    """Log density of the Normal-Wishart itself at members' (mu, Lambda = exp(-log_var)): [B, M].

    Written around its own expectations, with Stirling's formula taken out of the Gamma's
    normaliser, so that nothing cancels while nu grows.
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

  @jax.jit
  def cdf(self, y_BD):
    """P(target <= y) of each target: [B, D]."""
    return _student_cdf((y_BD - self.mean_BD) * jnp.exp(-self.log_scale()), self.nu())

  @jax.jit
  def quantile(self, q):
    """The q-quantile of each target, 0 < q < 1: [B, D].

    Bracketed by the normal's and, as nu > 2, by that of nu = 2, which has a closed form.
    """
    nu_BD = self.nu()
    normal = ndtri(q) * jnp.ones_like(nu_BD)
    heavy = (2 * q - 1) / jnp.sqrt(2 * q * (1 - q)) * jnp.ones_like(nu_BD)
    low, high = jnp.minimum(normal, heavy), jnp.maximum(normal, heavy)
    return self.mean_BD + jnp.exp(self.log_scale()) * _bisect(
      lambda t: _student_cdf(t, nu_BD), q, low, high
    )

  def affine(self, scale_D, shift_D):
    """The distribution of scale * y + shift: from standardised targets to their own units."""
    scale_D, shift_D = (np.broadcast_to(a, self.mean_BD.shape[-1:]) for a in (scale_D, shift_D))
    return NormalWishart(
      self.mean_BD * scale_D[None] + shift_D[None],
      self.log_var_BD + 2 * np.log(np.abs(scale_D))[None],
      self.log_kappa_BD,
      self.log_dof_BD,
    )
