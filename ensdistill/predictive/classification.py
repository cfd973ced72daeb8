"""Predictive distributions of classifiers: a mixture of members, or a Dirichlet.

Uncertainties are entropies: total H[mean p] = data + knowledge, where data is the expected entropy
and knowledge the mutual information of label and member. Each is computed in a form that float32
holds for confident predictions and agreeing members too, where a difference of entropies would be
rounding alone.
"""

import math

import jax
import jax.numpy as jnp
from jax.scipy.special import digamma, logsumexp

from ensdistill import numerics
from ensdistill.predictive.pytree import distribution, gap


def _entropy(log_p):
  possible = log_p > -jnp.inf
  return -jnp.where(possible, jnp.exp(log_p) * jnp.where(possible, log_p, 0), 0).sum(-1)


@distribution
class Mixture:
  """Members' categorical predictions, equally weighted: log p_m(k | x), [B, M, K].

  A probability of zero (-inf) is allowed.
  """

  log_probs_BMK: jax.Array

  @jax.jit
  def log_probs(self):
    """Log of the members' mean probability [B, K]."""
    if self.log_probs_BMK.shape[1] == 1:
      return self.log_probs_BMK[:, 0]
    return numerics.log_softmax(logsumexp(self.log_probs_BMK, 1))

  @jax.jit
  def total(self):
    """H[mean_m p_m]: [B]."""
    return _entropy(self.log_probs())

  @jax.jit
  def data(self):
    """mean_m H[p_m]: [B]."""
    return _entropy(self.log_probs_BMK).mean(1)

  @jax.jit
  def knowledge(self):
    """Mutual information, mean_m KL(p_m || mean p) = total - data >= 0: [B].

    As the sum of p_m log(p_m / p) - p_m + p: every term is at least zero, so none cancels another.
    """
    log_p_BMK, log_q_B1K = self.log_probs_BMK, self.log_probs()[:, None]
    possible = log_p_BMK > -jnp.inf
    d_BMK = jnp.where(possible, log_p_BMK - log_q_B1K, 0)
    far_BMK = d_BMK < -20  # there exp(-d) may overflow
    near_BMK = jnp.exp(log_p_BMK) * gap(jnp.where(far_BMK, 0, d_BMK))
    tail_BMK = jnp.exp(log_q_B1K) + jnp.exp(log_p_BMK) * (d_BMK - 1)
    return jnp.where(far_BMK | ~possible, tail_BMK, near_BMK).sum(-1).mean(1)

  @jax.jit
  def epkl(self):
    """Expected pairwise KL, (1/M^2) sum_ij KL(p_i || p_j) = sum_k Cov_m(p_mk, log p_mk): [B].

    With i = j, as two independent draws of a member have it. inf where a member rules out a class
    that another one allows.
    """
    log_p_BMK = self.log_probs_BMK
    possible_BMK = log_p_BMK > -jnp.inf
    p_BMK, log_p_BMK = jnp.exp(log_p_BMK), jnp.where(possible_BMK, log_p_BMK, 0)
    cov_BK = (
      (p_BMK - p_BMK.mean(1, keepdims=True)) * (log_p_BMK - log_p_BMK.mean(1, keepdims=True))
    ).mean(1)
    split_BK = possible_BMK.any(1) & ~possible_BMK.all(1)
    return jnp.where(split_BK.any(-1), jnp.inf, cov_BK.sum(-1))

  def in_units(self, mean, std):
    """Return the distribution itself: class labels have no unit."""
    del mean, std
    return self


def _digamma_gap(log_x):
  """psi(x + 1) - log x = 1/(2x) - 1/(12x^2) + ...: positive, and small for large x."""
  large = log_x > math.log(8)
  x = jnp.exp(jnp.where(large, 0, log_x))
  r = jnp.exp(-jnp.where(large, log_x, jnp.inf))
  r2 = r * r
  series = r / 2 - r2 * (1 / 12 - r2 * (1 / 120 - r2 * (1 / 252 - r2 / 240)))
  return jnp.where(large, series, digamma(1 + x) - log_x)


def _digamma1(log_x):
  """psi(x + 1), for any log x."""
  large = log_x > math.log(8)
  return jnp.where(
    large, log_x + _digamma_gap(log_x), digamma(1 + jnp.exp(jnp.where(large, 0, log_x)))
  )


@distribution
class Dirichlet:
  """A Dirichlet over categoricals, by its log concentrations [B, K] (EnD^2, Proxy-EnD^2)."""

  log_alpha_BK: jax.Array

  @jax.jit
  def log_probs(self):
    """Log of the mean, log(alpha_k / alpha_0): [B, K]."""
    return numerics.log_softmax(jnp.asarray(self.log_alpha_BK))

  def _log_alpha0(self):
    return logsumexp(self.log_alpha_BK, -1, keepdims=True)

  @jax.jit
  def total(self):
    """H[mean p]: [B]."""
    return _entropy(self.log_probs())

  @jax.jit
  def data(self):
    """E H[p] = -sum_k p_k (psi(alpha_k + 1) - psi(alpha_0 + 1)): [B]."""
    gap_BK = _digamma1(self._log_alpha0()) - _digamma1(jnp.asarray(self.log_alpha_BK))
    return (jnp.exp(self.log_probs()) * gap_BK).sum(-1)

  @jax.jit
  def knowledge(self):
    """Mutual information of label and p, total - data: [B].

    As sum_k p_k g(alpha_k) - g(alpha_0), g(x) = psi(x + 1) - log x: for large alpha_0, where total
    and data agree in all their float32 digits, this keeps (K - 1) / (2 alpha_0).
    """
    g_BK, g0_B1 = _digamma_gap(jnp.asarray(self.log_alpha_BK)), _digamma_gap(self._log_alpha0())
    p_BK = jnp.exp(self.log_probs())
    return jnp.maximum((p_BK * (g_BK - g0_B1)).sum(-1), 0)

  @jax.jit
  def epkl(self):
    """Expected pairwise KL of two draws, (K - 1) / alpha_0: [B]."""
    return (self.log_alpha_BK.shape[-1] - 1) * jnp.exp(-self._log_alpha0()[:, 0])

  def in_units(self, mean, std):
    """Return the distribution itself: class labels have no unit."""
    del mean, std
    return self
