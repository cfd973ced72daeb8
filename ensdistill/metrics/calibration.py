"""Calibration: expected calibration error, temperature, and conformal sets."""

import math
from typing import NamedTuple

import numpy as np

from ensdistill.metrics.arrays import BLOCK, check, in_blocks, normalized
from ensdistill.metrics.scoring import correct, label_log_probs
from ensdistill.metrics.uncertainty import tied_mean

TEMPERATURES = 0.01, 100.0


class Reliability(NamedTuple):
  """One row a bin (lower, upper], the first and last closed; means of an empty one are NaN."""

  lower: np.ndarray
  upper: np.ndarray
  count: np.ndarray
  confidence: np.ndarray
  accuracy: np.ndarray


def confidence(log_probs_BK):
  """Probability of the likeliest class: [B]."""
  return in_blocks(lambda x: np.exp(normalized(x).max(-1)), check(log_probs_BK))


def _rounding(log_probs):
  return 4 * float(np.finfo(np.float64 if np.asarray(log_probs).itemsize > 4 else np.float32).eps)


def bin_index(confidence_B, bins=15, rounding=1e-15):
  """Which of the equal-width bins; a confidence within `rounding` of an edge is on it, so below."""
  if bins < 1:
    raise ValueError(f'bins={bins}: at least one')
  index_B = np.ceil(np.asarray(confidence_B) * (1 - rounding) * bins).astype(np.int64) - 1
  return index_B.clip(0, bins - 1)


def bin_table(confidence_B, correct_B, bins=15, rounding=1e-15):
  """Equal-width bins of confidence."""
  index_B = bin_index(confidence_B, bins, rounding)
  total = lambda weights: np.bincount(index_B, weights, minlength=bins)
  count = np.bincount(index_B, minlength=bins)
  edges = np.linspace(0, 1, bins + 1)
  filled = np.where(count > 0, count, np.nan)
  return Reliability(
    edges[:-1], edges[1:], count, total(confidence_B) / filled, total(correct_B) / filled
  )


def table_error(table):
  """sum_b (n_b / N) |accuracy_b - confidence_b| of a bin table."""
  gap = np.nan_to_num(np.abs(table.accuracy - table.confidence))
  return float((table.count * gap).sum() / table.count.sum())


def reliability(log_probs_BK, labels_B, bins=15):
  """The bins behind ece, for a reliability diagram."""
  correct_B = correct(log_probs_BK, labels_B)
  return bin_table(confidence(log_probs_BK), correct_B, bins, _rounding(log_probs_BK))


def ece(log_probs_BK, labels_B, bins=15):
  """Expected calibration error, sum_b (n_b / N) |accuracy_b - confidence_b| (Guo et al. 2017).

  Bins of equal width (l, u]; a confidence of exactly 1 is in the last one, 0 in the first.
  """
  return table_error(reliability(log_probs_BK, labels_B, bins))


def adaptive_error(confidence_B, correct_B, bins=15):
  """adaptive_ece from confidences."""
  order_B = np.argsort(confidence_B, kind='stable')
  gap_B = (tied_mean(confidence_B, correct_B) - confidence_B)[order_B]
  return float(sum(abs(part.sum()) for part in np.array_split(gap_B, bins)) / len(gap_B))


def adaptive_ece(log_probs_BK, labels_B, bins=15):
  """ECE over bins of equal mass (Nguyen and O'Connor 2015): as many examples in each, to one.

  Examples of equal confidence share their mean accuracy, so that their order decides nothing.
  """
  if bins < 1:
    raise ValueError(f'bins={bins}: at least one')
  return adaptive_error(confidence(log_probs_BK), correct(log_probs_BK, labels_B), bins)


def _slope(log_probs_BK, labels_B, beta):
  """First and second derivative, by beta = 1 / T, of the mean NLL of p^beta renormalised.

  mean_x (E_p[log p] - log p(label)) and mean_x Var_p[log p], the expectations under p^beta.
  """
  first = second = 0.0
  step = max(1, BLOCK // log_probs_BK.shape[1])
  for i in range(0, len(labels_B), step):
    x_BK = np.asarray(log_probs_BK[i : i + step], np.float64)
    # Below the top class, so that nothing overflows; -inf as a number, whose weight is zero.
    x_BK = np.maximum(x_BK - x_BK.max(-1, keepdims=True), -1e30)
    p_BK = np.exp(beta * x_BK)
    p_BK /= p_BK.sum(-1, keepdims=True)
    mean_B = np.einsum('bk,bk->b', p_BK, x_BK)
    first += (mean_B - label_log_probs(x_BK, labels_B[i : i + step])).sum()
    x_BK -= mean_B[:, None]
    second += np.einsum('bk,bk,bk->', p_BK, x_BK, x_BK)
  return first / len(labels_B), second / len(labels_B)


def fit_temperature(log_probs_BK, labels_B):
  """The T that minimises the NLL of p^(1/T) renormalised; fit it on validation data.

  Convex in 1 / T: Newton's method, kept inside a bracket, to 1e-9 relative. T stays within
  TEMPERATURES: all labels right, however unsurely, give the lower bound (the likelihood grows
  without end as T falls), predictions worse than uniform the upper. Where temperature changes
  nothing (every prediction uniform, or certain and right) T is 1.
  """
  log_probs_BK, labels_B = check(log_probs_BK, labels_B)
  in_blocks(lambda x: normalized(x)[:, 0], log_probs_BK)  # refuses what is no log of probabilities
  slope = lambda log_beta: _slope(log_probs_BK, labels_B, math.exp(log_beta))
  low, high = -math.log(TEMPERATURES[1]), -math.log(TEMPERATURES[0])
  if slope(high)[0] <= 0:
    return TEMPERATURES[0] if slope(low)[0] < 0 else 1.0
  if slope(low)[0] >= 0:
    return TEMPERATURES[1]
  at = 0.0
  while high - low > 1e-10:
    first, second = slope(at)
    low, high = (at, high) if first < 0 else (low, at)
    # Newton in beta, said in log beta; a step out of the bracket is replaced by its middle.
    ratio = 1 - first / (second * math.exp(at)) if second > 0 else 0.0
    step = math.log(ratio) if ratio > 0 else -math.inf
    if abs(step) < 1e-9:
      return math.exp(-at - step)
    at = at + step if low < at + step < high else (low + high) / 2
  return math.exp(-at)


def apply_temperature(log_probs_BK, T):
  """log of p^(1/T) renormalised: float64 [B, K]."""
  if not T > 0:
    raise ValueError(f'temperature {T}: it must be positive')

  def soften(x_BK):
    x_BK = np.asarray(x_BK, np.float64)
    x_BK = (x_BK - x_BK.max(-1, keepdims=True)) / T
    return x_BK - np.log(np.exp(x_BK).sum(-1, keepdims=True))

  return in_blocks(soften, check(log_probs_BK))


def conformal_threshold(log_probs_BK, labels_B, coverage=0.9):
  """Largest -log p of a class that enters a prediction set, from calibration data; may be inf.

  The ceil((n + 1) coverage)-th smallest -log p(label): a set then holds the label of a new example
  with at least that probability. inf (every class enters) where n is too small for it.
  """
  if not 0 < coverage < 1:
    raise ValueError(f'coverage={coverage}: between 0 and 1')
  log_probs_BK, labels_B = check(log_probs_BK, labels_B)
  score_B = in_blocks(lambda x, y: -label_log_probs(normalized(x), y), log_probs_BK, labels_B)
  rank = math.ceil((len(score_B) + 1) * coverage * (1 - 1e-12))
  return float(np.sort(score_B)[rank - 1]) if rank <= len(score_B) else math.inf


def conformal_sets(log_probs_BK, labels_B, threshold):
  """Size of each prediction set, and whether it holds the label: [B], [B]."""

  def per_example(x, y):
    score_BK = -normalized(x)
    return (score_BK <= threshold).sum(-1), label_log_probs(score_BK, y) <= threshold

  return in_blocks(per_example, *check(log_probs_BK, labels_B))


def conformal(log_probs_BK, labels_B, valid_log_probs_BK, valid_labels_B, coverage=0.9):
  """Split conformal prediction by -log p (least ambiguous sets, Sadinle et al. 2019).

  -> mean size of the sets, share that holds the label. A set may be empty.
  """
  threshold = conformal_threshold(valid_log_probs_BK, valid_labels_B, coverage)
  size_B, covered_B = conformal_sets(log_probs_BK, labels_B, threshold)
  return float(size_B.mean()), float(covered_B.mean())
