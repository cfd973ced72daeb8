"""Log-softmax, KL terms, Gamma and psi in forms that are accurate in float32.

The usual forms cancel. Here lnGamma(a) = a ln a - a + rest(a) and psi(a) = ln a + rest(a). The
leading parts of a Dirichlet's density combine into KL divergences of means. The rests are small, so
that even a concentration of 1e20 loses no digit.
"""

import math

import jax
import jax.numpy as jnp


def log_softmax(z):
  """Return log softmax(z) over the last axis, to the last digit also for confident outputs.

  The largest entry's own term, exp(0) = 1, is left out of the sum. Then log p_top = -log1p(sum of
  the others) may be -1e-24, where the usual form rounds it and its gradient to 0. Perturbations use
  gradients of this size, and the usual form loses the largest of their entries.
  """
  is_top = jax.nn.one_hot(z.argmax(-1), z.shape[-1], dtype=bool)
  shifted = jnp.where(is_top, 0, z - jnp.where(is_top, z, 0).sum(-1, keepdims=True))
  return shifted - jnp.log1p(jnp.where(is_top, 0, jnp.exp(shifted)).sum(-1, keepdims=True))


def divergence_terms(log_p, log_q):
  """Return the terms p (log p - log q) + q - p of a KL divergence.

  q - p sums to zero over classes. Each term is at least zero and stationary at p = q, so an error
  in a normaliser enters squared. At a temperature of 10 and with a thousand classes, the plain sum
  of p (log p - log q) keeps only four digits.
  """
  p, gap = jnp.exp(log_p), log_p - log_q
  near = jnp.abs(gap) < 0.5
  small = jnp.where(near, gap, 0)
  return jnp.where(near, p * (jnp.expm1(-small) + small), jnp.exp(log_q) - p + p * gap)


SHIFT = 4  # above this value, Stirling's series below is accurate in float32


def log_gamma_rest(log_a):
  """Return lnGamma(a) - (a ln a - a), given log a: Stirling's series, by recurrence below 4."""

  def series(log_a):
    r = jnp.exp(-log_a)
    rest = r * (1 / 12 - r**2 * (1 / 360 - r**2 / 1260))
    return 0.5 * (math.log(2 * math.pi) - log_a) + rest

  large = log_a > math.log(SHIFT)
  a, up, log_up = _shifted(log_a, large)
  between = jnp.log((a + 1) * (a + 2) * (a + 3))
  low = series(log_up) + up * (log_up - 1) - between - log_a - a * (log_a - 1)
  return jnp.where(large, series(jnp.where(large, log_a, 0)), low)


def digamma_rest(log_a):
  """Return psi(a) - ln a, given log a, in the same way as `log_gamma_rest`."""

  def series(log_a):
    r = jnp.exp(-log_a)
    return -r / 2 - r**2 * (1 / 12 - r**2 * (1 / 120 - r**2 * (1 / 252 - r**2 / 240)))

  large = log_a > math.log(SHIFT)
  a, up, log_up = _shifted(log_a, large)
  first = jnp.exp(-jnp.where(large, 0, log_a))  # 1 / a; the derivative of 1 / a would square a
  low = series(log_up) + log_up - first - 1 / (a + 1) - 1 / (a + 2) - 1 / (a + 3) - log_a
  return jnp.where(large, series(jnp.where(large, log_a, 0)), low)


def _shifted(log_a, large):
  """Return a, a + 4 and log(a + 4); where a is large, a is unused and set to 1."""
  a = jnp.exp(jnp.where(large, 0, log_a))
  return a, a + SHIFT, jnp.log(a + SHIFT)


def log_total(log_a_BK):
  """Return log sum_k a_k: [B, 1]."""
  return jax.nn.logsumexp(log_a_BK, -1, keepdims=True)


def dirichlet_log_means(log_a_BK):
  """Return E[ln pi_k] = psi(a_k) - psi(a_0) of a Dirichlet: [B, K]."""
  return log_softmax(log_a_BK) + digamma_rest(log_a_BK) - digamma_rest(log_total(log_a_BK))


def dirichlet_entropy(log_a_BK):
  """Return H[Dir(a)] = ln B(a) + (a_0 - K) psi(a_0) - sum_k (a_k - 1) psi(a_k): [B]."""
  log_a0_B1 = log_total(log_a_BK)
  psi_BK = digamma_rest(log_a_BK) - digamma_rest(log_a0_B1)
  terms_BK = log_softmax(log_a_BK) + log_gamma_rest(log_a_BK) - jnp.expm1(log_a_BK) * psi_BK
  return terms_BK.sum(-1) - log_gamma_rest(log_a0_B1)[:, 0]


def dirichlet_kl(log_a_BK, log_b_BK):
  """Return KL(Dir(a) || Dir(b)): [B].

  lnGamma(a_0) - lnGamma(b_0)
    + sum_k [lnGamma(b_k) - lnGamma(a_k) + (a_k - b_k)(psi(a_k) - psi(a_0))]
  = b_0 KL(mean b || mean a) + the same expression with the rests of lnGamma and psi.
  """
  log_a0_B1, log_b0_B1 = log_total(log_a_BK), log_total(log_b_BK)
  means_B = divergence_terms(log_softmax(log_b_BK), log_softmax(log_a_BK)).sum(-1)
  psi_BK = digamma_rest(log_a_BK) - digamma_rest(log_a0_B1)
  gammas_BK = log_gamma_rest(log_b_BK) - log_gamma_rest(log_a_BK)
  rest_B = (gammas_BK + (jnp.exp(log_a_BK) - jnp.exp(log_b_BK)) * psi_BK).sum(-1)
  rest_B += (log_gamma_rest(log_a0_B1) - log_gamma_rest(log_b0_B1))[:, 0]
  return jnp.exp(log_b0_B1[:, 0]) * means_B + rest_B
