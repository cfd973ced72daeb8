"""Predictions against a distribution over the labels of each example, such as human votes."""

import numpy as np

from ensdistill.metrics.uncertainty import rank_correlation


def cross_entropy(log_probs_BK, labels_BK) -> float:
  """Return the mean of -sum_k q_k log p_k; a class with q_k = 0 counts nothing."""
  log_p, q = _host(log_probs_BK, labels_BK)
  return float(-_times(q, log_p).sum(1).mean())


def entropy(labels_BK) -> np.ndarray:
  """Return the entropy -sum_k q_k log q_k of each row, in nats: [B]."""
  q = np.asarray(labels_BK, np.float64)
  return -_times(q, np.log(np.where(q > 0, q, 1))).sum(1)


def kl(log_probs_BK, labels_BK) -> float:
  """Return the mean KL(q || p), the part of the cross-entropy that a better p could avoid."""
  return cross_entropy(log_probs_BK, labels_BK) - float(entropy(labels_BK).mean())


def entropy_rank(log_probs_BK, labels_BK) -> float:
  """Return Spearman's correlation of the entropies of p and q: which examples are ambiguous."""
  log_p, q = _host(log_probs_BK, labels_BK)
  return rank_correlation(entropy(np.exp(log_p)), entropy(q))


def against(log_probs_BK, labels_BK) -> dict[str, float]:
  """Return all of these metrics."""
  return {
    'cross_entropy': cross_entropy(log_probs_BK, labels_BK),
    'kl': kl(log_probs_BK, labels_BK),
    'entropy_rank': entropy_rank(log_probs_BK, labels_BK),
  }


def _host(log_probs_BK, labels_BK) -> tuple[np.ndarray, np.ndarray]:
  log_p, q = (np.asarray(values, np.float64) for values in (log_probs_BK, labels_BK))
  if log_p.shape != q.shape or log_p.ndim != 2:
    raise ValueError(
      f'log-probabilities {log_p.shape} and label distributions {q.shape} must both be [N, K]'
    )
  return log_p, q


def _times(q, values):
  """Return q * values, 0 where q is 0 (a probability may be 0 there, its logarithm infinite)."""
  return np.where(q > 0, q * np.where(q > 0, values, 0), 0)
