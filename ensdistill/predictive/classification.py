"""Predictive distributions of classifiers: a mixture of members, or a Dirichlet.

Uncertainties are entropies: total H[mean p] = data + knowledge, where data is the expected entropy
and knowledge the mutual information of label and member. Each has a form of its own that stays
accurate in float32. For confident predictions and for members that agree, a difference of entropies
would be rounding error alone. `ensdistill.metrics.entropies` computes metrics in float64 instead.
"""

import math

import jax
import jax.numpy as jnp
from jax.scipy.special import digamma, logsumexp

from ensdistill import numerics
from ensdistill.predictive.pytree import distribution, gap


def _entropy(log_p):
  """Return the entropy over the last axis; log_p may be -inf."""
  possible = log_p > -jnp.inf
  return -jnp.where(possible, jnp.exp(log_p) * jnp.where(possible, log_p, 0), 0).sum(-1)


class _Classifier:
  """What both predictive distributions share."""

  family = 'categorical'

  def log_probs(self):
    """Return the log of the mean probabilities [B, K]."""
    raise NotImplementedError

  @jax.jit
  def total(self):
    """Return the entropy of the mean probabilities, H[mean p]: [B]."""
    return _entropy(self.log_probs())

  def in_units(self, mean, std):
    """Return the distribution itself: class labels have no unit."""
    del mean, std
    return self


@distribution
class Mixture(_Classifier):
  """Categorical predictions of members, equally weighted: log p_m(k | x), [B, M, K].

  A probability of zero (-inf) is allowed.

  Example:
    >>> p = Mixture(jnp.log(jnp.array([[[0.9, 0.1], [0.1, 0.9]]])))  # two members, who disagree
    >>> [round(float(u[0]), 3) for u in (p.total(), p.data(), p.knowledge())]
    [0.693, 0.325, 0.368]
  """

  log_probs_BMK: jax.Array

  @jax.jit
  def log_probs(self):
    """Return the log of the members' mean probabilities [B, K]."""
    if self.log_probs_BMK.shape[1] == 1:
      return self.log_probs_BMK[:, 0]
    return numerics.log_softmax(logsumexp(self.log_probs_BMK, 1))

  @jax.jit
  def data(self):
    """Return mean_m H[p_m]: [B]."""
    return _entropy(self.log_probs_BMK).mean(1)

  @jax.jit
  def knowledge(self):
    """Return the mutual information, mean_m KL(p_m || mean p) = total - data >= 0: [B].

    The terms of the sum are p_m log(p_m / p) - p_m + p. Each is at least zero, so none cancels
    another.
    """
    log_p_BMK, log_q_B1K = self.log_probs_BMK, self.log_probs()[:, None]
    possible = log_p_BMK > -jnp.inf
    d_BMK = jnp.where(possible, log_p_BMK - log_q_B1K, 0)
    far_BMK = d_BMK < -20  # there exp(-d) may overflow
    near_BMK = jnp.exp(log_p_BMK) * gap(jnp.where(far_BMK, 0, d_BMK))
    tail_BMK = jnp.exp(log_q_B1K) + jnp.exp(log_p_BMK) * (d_BMK - 1)
    return jnp.where(far_BMK | ~possible, tail_BMK, near_BMK).sum(-1).mean(1)


def _digamma_gap(log_x):
  """Return psi(x + 1) - log x = 1/(2x) - 1/(12x^2) + ..., positive, and small for large x."""
  large = log_x > math.log(8)
  x = jnp.exp(jnp.where(large, 0, log_x))
  r = jnp.exp(-jnp.where(large, log_x, jnp.inf))
  r2 = r * r
  series = r / 2 - r2 * (1 / 12 - r2 * (1 / 120 - r2 * (1 / 252 - r2 / 240)))
  return jnp.where(large, series, digamma(1 + x) - log_x)


def _digamma1(log_x):
  """Return psi(x + 1), for any log x."""
  large = log_x > math.log(8)
  return jnp.where(
    large, log_x + _digamma_gap(log_x), digamma(1 + jnp.exp(jnp.where(large, 0, log_x)))
  )


@distribution
class Dirichlet(_Classifier):
  """A Dirichlet over categoricals, by its log concentrations [B, K] (EnD^2, Proxy-EnD^2)."""

  log_alpha_BK: jax.Array

  @jax.jit
  def log_probs(self):
    """Return the log of the mean, log(alpha_k / alpha_0): [B, K]."""
    return numerics.log_softmax(jnp.asarray(self.log_alpha_BK))

  def _log_alpha0(self):
    return logsumexp(self.log_alpha_BK, -1, keepdims=True)

  @jax.jit
  def data(self):
    """Return E H[p] = -sum_k p_k (psi(alpha_k + 1) - psi(alpha_0 + 1)): [B]."""
    gap_BK = _digamma1(self._log_alpha0()) - _digamma1(jnp.asarray(self.log_alpha_BK))
    return (jnp.exp(self.log_probs()) * gap_BK).sum(-1)

  @jax.jit
  def knowledge(self):
    """Return the mutual information of label and p, total - data: [B].

    It is sum_k p_k g(alpha_k) - g(alpha_0), with g(x) = psi(x + 1) - log x. For large alpha_0,
    total and data agree in all their float32 digits; this form keeps (K - 1) / (2 alpha_0).
    """
    g_BK, g0_B1 = _digamma_gap(jnp.asarray(self.log_alpha_BK)), _digamma_gap(self._log_alpha0())
    p_BK = jnp.exp(self.log_probs())
    return jnp.maximum((p_BK * (g_BK - g0_B1)).sum(-1), 0)
