"""Calibration: expected calibration error, temperature, and conformal sets."""

import dataclasses
import math

import numpy as np

from ensdistill.metrics.arrays import BLOCK, check, in_blocks, normalized
from ensdistill.metrics.scoring import correct, label_log_probs
from ensdistill.metrics.uncertainty import tied_mean

TEMPERATURES = 0.01, 100.0


@dataclasses.dataclass(frozen=True, eq=False)
class Reliability:
  """One row a bin (lower, upper]; the first also holds 0. Means of an empty bin are NaN."""

  lower: np.ndarray
  upper: np.ndarray
  count: np.ndarray
  confidence: np.ndarray
  accuracy: np.ndarray


def confidence(log_probs_BK):
  """Return the probability of the likeliest class: [B]."""

  def per_example(x):
    return np.exp(normalized(x).max(-1))

  return in_blocks(per_example, check(log_probs_BK))


def _rounding(log_probs):
  """Return the tolerance of confidences at the edges of bins, by the type of log_probs."""
  return 4 * float(np.finfo(np.float64 if np.asarray(log_probs).itemsize > 4 else np.float32).eps)


def bin_index(confidence_B, bins=15, rounding=1e-15):
  """Return the index of each confidence's equal-width bin.

  A confidence within `rounding` of an edge counts as on the edge, so it is in the lower bin.
  """
  if bins < 1:
    raise ValueError(f'bins={bins} must be at least 1')
  index_B = np.ceil(np.asarray(confidence_B) * (1 - rounding) * bins).astype(np.int64) - 1
  return index_B.clip(0, bins - 1)


def bin_table(confidence_B, correct_B, bins=15, rounding=1e-15):
  """Return the Reliability of equal-width bins of confidence."""
  index_B = bin_index(confidence_B, bins, rounding)
  count = np.bincount(index_B, minlength=bins)
  edges = np.linspace(0, 1, bins + 1)
  filled = np.where(count > 0, count, np.nan)
  means = (np.bincount(index_B, v, minlength=bins) / filled for v in (confidence_B, correct_B))
  return Reliability(edges[:-1], edges[1:], count, *means)


def table_error(table):
  """Return sum_b (n_b / N) |accuracy_b - confidence_b| of a Reliability."""
  gap = np.nan_to_num(np.abs(table.accuracy - table.confidence))
  return float((table.count * gap).sum() / table.count.sum())


def reliability(log_probs_BK, labels_B, bins=15):
  """Return the bins of ece, for a reliability diagram."""
  correct_B = correct(log_probs_BK, labels_B)
  return bin_table(confidence(log_probs_BK), correct_B, bins, _rounding(log_probs_BK))


def ece(log_probs_BK, labels_B, bins=15):
  """Return the expected calibration error (Guo et al. 2017).

  It is sum_b (n_b / N) |accuracy_b - confidence_b| over bins (l, u] of equal width. A confidence of
  1 is in the last bin, of 0 in the first.
  """
  return table_error(reliability(log_probs_BK, labels_B, bins))


def adaptive_error(confidence_B, correct_B, bins=15):
  """Return adaptive_ece from confidences."""
  order_B = np.argsort(confidence_B, kind='stable')
  gap_B = (tied_mean(confidence_B, correct_B) - confidence_B)[order_B]
  return float(sum(abs(part.sum()) for part in np.array_split(gap_B, bins)) / len(gap_B))


def adaptive_ece(log_probs_BK, labels_B, bins=15):
  """Return the ECE over bins with equal numbers of examples (Nguyen and O'Connor 2015).

  Examples of equal confidence share their mean accuracy, so the result does not depend on the
  order of examples.
  """
  if bins < 1:
    raise ValueError(f'bins={bins} must be at least 1')
  return adaptive_error(confidence(log_probs_BK), correct(log_probs_BK, labels_B), bins)


def _slope(log_probs_BK, labels_B, beta):
  """Return the first and second derivative, by beta = 1 / T, of the mean NLL of p^beta.

  They are mean_x (E[log p] - log p(label)) and mean_x Var[log p], with expectations under p^beta
  renormalised.
  """
  first = second = 0.0
  step = max(1, BLOCK // log_probs_BK.shape[1])
  for i in range(0, len(labels_B), step):
    x_BK = np.asarray(log_probs_BK[i : i + step], np.float64)
    # Relative to the top class, so that nothing overflows. -inf becomes a number of weight zero.
    x_BK = np.maximum(x_BK - x_BK.max(-1, keepdims=True), -1e30)
    p_BK = np.exp(beta * x_BK)
    p_BK /= p_BK.sum(-1, keepdims=True)
    mean_B = np.einsum('bk,bk->b', p_BK, x_BK)
    first += (mean_B - label_log_probs(x_BK, labels_B[i : i + step])).sum()
    x_BK -= mean_B[:, None]
    second += np.einsum('bk,bk,bk->', p_BK, x_BK, x_BK)
  return first / len(labels_B), second / len(labels_B)


def fit_temperature(log_probs_BK, labels_B):
  """Return the T that minimises the NLL of p^(1/T) renormalised; fit it on validation data.

  The NLL is convex in 1 / T. Newton's method, kept inside a bracket, finds T to 1e-9 relative. T
  stays within TEMPERATURES. If all predictions are correct, T is the lower bound, as the likelihood
  grows without limit when T falls. If predictions are worse than uniform, T is the upper bound. If
  temperature has no effect (all predictions uniform, or certain and correct), T is 1.
  """
  log_probs_BK, labels_B = check(log_probs_BK, labels_B)
  confidence(log_probs_BK)  # refuses log_probs that are not normalised

  def slope(log_beta):
    return _slope(log_probs_BK, labels_B, math.exp(log_beta))

  low, high = -math.log(TEMPERATURES[1]), -math.log(TEMPERATURES[0])
  if slope(high)[0] <= 0:
    return TEMPERATURES[0] if slope(low)[0] < 0 else 1.0
  if slope(low)[0] >= 0:
    return TEMPERATURES[1]
  at = 0.0
  while high - low > 1e-10:
    first, second = slope(at)
    low, high = (at, high) if first < 0 else (low, at)
    # A Newton step in beta, as a step in log beta. Outside of the bracket, bisect it instead.
    ratio = 1 - first / (second * math.exp(at)) if second > 0 else 0.0
    step = math.log(ratio) if ratio > 0 else -math.inf
    if abs(step) < 1e-9:
      return math.exp(-at - step)
    at = at + step if low < at + step < high else (low + high) / 2
  return math.exp(-at)


def apply_temperature(log_probs_BK, T):
  """Return the log of p^(1/T) renormalised: float64 [B, K]."""
  if not T > 0:
    raise ValueError(f'temperature {T} must be positive')

  def soften(x_BK):
    x_BK = np.asarray(x_BK, np.float64)
    x_BK = (x_BK - x_BK.max(-1, keepdims=True)) / T
    return x_BK - np.log(np.exp(x_BK).sum(-1, keepdims=True))

  return in_blocks(soften, check(log_probs_BK))


def conformal_threshold(log_probs_BK, labels_B, coverage=0.9):
  """Return the largest -log p of a class that enters a prediction set, from calibration data.

  It is the ceil((n + 1) coverage)-th smallest -log p(label). A set then holds the label of a new
  example with at least this probability. If n is too small, it is inf: all classes enter.
  """
  if not 0 < coverage < 1:
    raise ValueError(f'coverage={coverage} must be between 0 and 1')

  def per_example(x, y):
    return -label_log_probs(normalized(x), y)

  score_B = in_blocks(per_example, *check(log_probs_BK, labels_B))
  rank = math.ceil((len(score_B) + 1) * coverage * (1 - 1e-12))
  return float(np.sort(score_B)[rank - 1]) if rank <= len(score_B) else math.inf


def conformal_sets(log_probs_BK, labels_B, threshold):
  """Return the size of each prediction set, and whether it holds the label: [B], [B]."""

  def per_example(x, y):
    score_BK = -normalized(x)
    return (score_BK <= threshold).sum(-1), label_log_probs(score_BK, y) <= threshold

  return in_blocks(per_example, *check(log_probs_BK, labels_B))


def conformal(log_probs_BK, labels_B, valid_log_probs_BK, valid_labels_B, coverage=0.9):
  """Return the mean size of conformal prediction sets, and the share that holds the label.

  Split conformal prediction by -log p (least ambiguous sets, Sadinle et al. 2019). A set may be
  empty.
  """
  threshold = conformal_threshold(valid_log_probs_BK, valid_labels_B, coverage)
  size_B, covered_B = conformal_sets(log_probs_BK, labels_B, threshold)
  return float(size_B.mean()), float(covered_B.mean())
