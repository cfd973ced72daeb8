"""Diversity of members, the deep-ensemble equivalent, agreement of student and ensemble."""

import numpy as np

from ensdistill.metrics.arrays import check, in_blocks, normalized, softmax
from ensdistill.metrics.uncertainty import rank_correlation


def possible(log_probs):
  """Return log_probs with 0 in place of -inf, as the limit of p log p is 0."""
  allowed = log_probs > -np.inf
  return log_probs if allowed.all() else np.where(allowed, log_probs, 0)


def pairwise_divergences(log_probs_BMK, probs_BMK):
  """Return (1/M^2) sum_ij KL(p_i || p_j) = sum_k Cov_m(p_mk, log p_mk): [B].

  Members must be normalised. The result is inf where a class has zero probability for one member
  and not for another.
  """
  log_p_BMK = possible(log_probs_BMK)
  cov_B = np.einsum('bmk,bmk->b', probs_BMK, log_p_BMK - log_p_BMK.mean(1, keepdims=True))
  cov_B = np.maximum(cov_B / probs_BMK.shape[1], 0)
  if log_p_BMK is not log_probs_BMK:
    allowed_BMK = log_probs_BMK > -np.inf
    cov_B[(allowed_BMK.any(1) & ~allowed_BMK.all(1)).any(-1)] = np.inf
  return cov_B


def pairwise_kl(log_probs_BMK):
  """Return the mean KL(p_i || p_j) over i != j and examples; 0 for one member.

  It is inf where a class has zero probability for one member and not for another.

  Example:
    >>> log_probs_BMK = np.log([[[0.8, 0.2], [0.6, 0.4]]])  # one example, two members
    >>> round(pairwise_kl(log_probs_BMK), 4)
    0.0981
  """
  members = np.shape(log_probs_BMK)[1]
  return epkl(log_probs_BMK) * members / (members - 1) if members > 1 else 0.0


def epkl(log_probs_BMK):
  """Return the mean expected pairwise KL of two independent draws of a member (i = j included)."""

  def per_example(x):
    return pairwise_divergences(*softmax(x))

  return float(in_blocks(per_example, check(log_probs_BMK)).mean())


def disagreements(log_probs_BMK):
  """Return the share of pairs i != j whose likeliest classes differ: [B]; 0 for one member."""
  size, members = log_probs_BMK.shape[:2]
  if members == 1:
    return np.zeros(size)
  top_BM = np.sort(log_probs_BMK.argmax(-1), 1)
  # Members of one class are adjacent after sorting. n members of a class are n (n - 1) / 2 pairs.
  first_BM = np.ones(top_BM.shape, bool)
  first_BM[:, 1:] = top_BM[:, 1:] != top_BM[:, :-1]
  starts = np.flatnonzero(first_BM)
  counts = np.diff(starts, append=top_BM.size)
  agree_B = np.bincount(starts // members, counts * (counts - 1) / 2, minlength=size)
  return 1 - agree_B / (members * (members - 1) / 2)


def disagreement(log_probs_BMK):
  """Return the share of pairs whose likeliest classes differ, mean over examples."""
  return float(in_blocks(disagreements, check(log_probs_BMK)).mean())


def dee(ensemble_cnll, cnll):
  """Return the deep-ensemble equivalent (Ashukha et al. 2020).

  It is the number of members with the same calibrated NLL. ensemble_cnll[i] is the calibrated NLL
  of i + 1 members, an average over subsets of that size. The result is linear between members and
  clamped to [1, M]. If the curve is not monotone, the smallest number is returned.

  Example:
    >>> dee([1.0, 0.5, 0.25], 0.375)  # between two and three members
    2.5
  """
  curve = np.asarray(ensemble_cnll, np.float64)
  if curve.ndim != 1 or not len(curve) or np.isnan(curve).any():
    raise ValueError(f'ensemble_cnll={ensemble_cnll} must hold one number for each of 1..M members')
  if np.isnan(cnll):
    return float('nan')
  if cnll >= curve[0]:
    return 1.0
  reached = curve <= cnll
  if not reached.any():
    return float(len(curve))
  i = int(reached.argmax())  # the curve passes cnll between i and i + 1 members
  return float(i + (curve[i - 1] - cnll) / (curve[i - 1] - curve[i]))


def divergences(log_probs_BK, from_log_probs_BK):
  """Return KL(from || p) of normalised predictions: [B]; inf where only p has zero probability."""
  possible_BK = from_log_probs_BK > -np.inf
  gap_BK = np.where(possible_BK, from_log_probs_BK, 0) - np.where(possible_BK, log_probs_BK, 0)
  return np.einsum('bk,bk->b', np.exp(from_log_probs_BK), gap_BK)


def agreement(log_probs_BK, ensemble_log_probs_BK, knowledge_B, ensemble_knowledge_B):
  """Return the agreement of a student with the ensemble that it was distilled from.

  It is the mean KL(ensemble || student) of mean predictions, and the rank correlation of their
  knowledge uncertainties.
  """
  log_probs_BK, ensemble_log_probs_BK = check(log_probs_BK), check(ensemble_log_probs_BK)

  def per_example(p, q):
    return divergences(normalized(p), normalized(q))

  kl = float(in_blocks(per_example, log_probs_BK, ensemble_log_probs_BK).mean())
  return kl, rank_correlation(knowledge_B, ensemble_knowledge_B)
