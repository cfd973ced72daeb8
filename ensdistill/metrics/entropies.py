"""Uncertainties of classifiers on the host, in float64, for metrics.

`ensdistill.predictive` has the float32 forms that run under jit. The two stay apart because they
compute differently. In float64 the knowledge of a mixture is simply total - data, and one
normalisation of the members serves all quantities. In float32 this difference has no digits left,
so each quantity has a form of its own.
"""

import numpy as np
from scipy import special

from ensdistill import predictive
from ensdistill.metrics.arrays import softmax
from ensdistill.metrics.diversity import disagreements, pairwise_divergences, possible


def log_probs_and_uncertainties(p):
  """Return normalised log_probs [B, K] of a Mixture or Dirichlet, and {uncertainty: [B]}.

  The uncertainties are total, data, knowledge, epkl (expected pairwise KL of two draws) and
  pairwise_kl: the mean over members i != j, or the expectation of this mean for a Dirichlet.
  A mixture also has disagreement.
  """
  if isinstance(p, predictive.Mixture):
    return _mixture(p)
  if isinstance(p, predictive.Dirichlet):
    return _dirichlet(p)
  raise ValueError(
    f'{type(p).__name__} is not a predictive distribution of a classifier: pass a '
    'predictive.Mixture or predictive.Dirichlet'
  )


def log_probs(p):
  """Return the log_probs of `log_probs_and_uncertainties` alone, in less time."""
  if isinstance(p, predictive.Mixture):
    return _log_mean(*softmax(p.log_probs_BMK))
  return log_probs_and_uncertainties(p)[0]


def _log_mean(log_probs_BMK, probs_BMK):
  if log_probs_BMK.shape[1] == 1:
    return log_probs_BMK[:, 0]
  with np.errstate(divide='ignore'):
    log_mean_BK = np.log(probs_BMK.mean(1))
  lost_BK = log_mean_BK < -650  # float64 ends at exp(-745)
  if lost_BK.any():
    at = np.moveaxis(log_probs_BMK, 1, 2)[lost_BK]
    log_mean_BK[lost_BK] = special.logsumexp(at, -1) - np.log(at.shape[-1])
  return log_mean_BK


def _entropy(log_probs_BK):
  return -np.einsum('bk,bk->b', np.exp(log_probs_BK), possible(log_probs_BK))


def _mixture(p):
  log_probs_BMK, probs_BMK = softmax(p.log_probs_BMK)
  members = probs_BMK.shape[1]
  log_mean_BK = _log_mean(log_probs_BMK, probs_BMK)
  total_B = data_B = _entropy(log_mean_BK)
  if members > 1:
    data_B = -np.einsum('bmk,bmk->b', probs_BMK, possible(log_probs_BMK)) / members
  epkl_B = pairwise_divergences(log_probs_BMK, probs_BMK)
  return log_mean_BK, {
    'total': total_B,
    'data': data_B,
    'knowledge': np.maximum(total_B - data_B, 0),
    'epkl': epkl_B,
    'pairwise_kl': epkl_B * members / max(members - 1, 1),
    'disagreement': disagreements(log_probs_BMK),
  }


def _digamma_gap(log_x):
  """Return psi(x + 1) - log x = 1/(2x) - 1/(12x^2) + ..., positive, and small for large x."""
  r = np.exp(-np.maximum(log_x, 3))
  series = r / 2 - r**2 * (1 / 12 - r**2 * (1 / 120 - r**2 * (1 / 252 - r**2 / 240)))
  return np.where(log_x > 3, series, special.digamma(1 + np.exp(np.minimum(log_x, 3))) - log_x)


def _dirichlet(p):
  log_alpha_BK = np.asarray(p.log_alpha_BK, np.float64)
  log_alpha0_B1 = special.logsumexp(log_alpha_BK, -1, keepdims=True)
  log_probs_BK, probs_BK = softmax(log_alpha_BK - log_alpha0_B1)
  total_B = _entropy(log_probs_BK)
  # total - data would have no digits left for large alpha_0: see predictive.Dirichlet.knowledge.
  gap_BK = _digamma_gap(log_alpha_BK) - _digamma_gap(log_alpha0_B1)
  knowledge_B = np.maximum((probs_BK * gap_BK).sum(-1), 0)
  epkl_B = (log_alpha_BK.shape[1] - 1) * np.exp(-log_alpha0_B1[:, 0])
  return log_probs_BK, {
    'total': total_B,
    'data': np.maximum(total_B - knowledge_B, 0),
    'knowledge': knowledge_B,
    'epkl': epkl_B,
    'pairwise_kl': epkl_B,
  }
