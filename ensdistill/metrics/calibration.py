"""Calibration: calibration errors and temperature."""

import dataclasses
import math

import numpy as np
from scipy import fft

from ensdistill.metrics.arrays import BLOCK, check, in_blocks, normalized, softmax
from ensdistill.metrics.scoring import correct, label_log_probs
from ensdistill.metrics.uncertainty import tied_mean

TEMPERATURES = 0.01, 100.0
_GRIDS = 1 << 14, 1 << 17, 1 << 20  # cells of smooth_ece
_PRECISION = 1e-9


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

  Example:
    >>> log_probs_BK = np.log([[0.9, 0.1], [0.6, 0.4], [0.3, 0.7]])
    >>> round(ece(log_probs_BK, np.array([0, 1, 1])), 4)  # gaps 0.1, 0.6 and 0.3
    0.3333
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


def class_gaps(probs_BK, labels_B, bins=15, rounding=1e-15):
  """Return sum_x (p_k - 1[y = k]) over the examples of each class and bin of p_k: [K, bins].

  The sums of several batches add up to those of all examples.
  """
  classes = probs_BK.shape[1]
  # Nearly all probabilities are in the first bin. Its sums are the totals minus the other bins.
  total_K = probs_BK.sum(0) - np.bincount(labels_B, minlength=classes)
  row_N, class_N = np.nonzero(probs_BK > (1 + rounding) / bins)
  upper_N = probs_BK[row_N, class_N]
  at_N = class_N * bins + bin_index(upper_N, bins, rounding)
  gap_N = upper_N - (labels_B[row_N] == class_N)
  sums = np.bincount(at_N, gap_N, classes * bins).astype(np.float64)  # integers if N = 0
  gap_Kb = sums.reshape(classes, bins)
  gap_Kb[:, 0] += total_K - gap_Kb.sum(1)
  return gap_Kb


def class_error(gap_Kb, size):
  """Return classwise_ece from the class_gaps of `size` examples."""
  return float(np.abs(gap_Kb).sum() / len(gap_Kb) / size)


def classwise_ece(log_probs_BK, labels_B, bins=15):
  """Return the classwise expected calibration error (Kull et al. 2019).

  It is the mean over classes k of the ECE of p_k against 1[y = k]:
  (1/K) sum_k sum_b (n_kb / N) |share of label k - mean p_k| over bins (l, u] of p_k of equal width.
  A probability of 0 is in the first bin. A class without examples counts like any other.
  """
  if bins < 1:
    raise ValueError(f'bins={bins} must be at least 1')
  log_probs_BK, labels_B = check(log_probs_BK, labels_B)
  rounding = _rounding(log_probs_BK)

  def per_block(x, y):
    return class_gaps(softmax(x)[1], y, bins, rounding)[None]

  gap_Kb = in_blocks(per_block, log_probs_BK, labels_B).sum(0)
  return class_error(gap_Kb, len(labels_B))


def _smoothed(confidence_B, residual_B, cells):
  """Return the function sigma -> smECE_sigma, on a grid of equal cells.

  Each residual is shared between the two nearest nodes. The cosine transform, which reflects at 0
  and 1, turns smoothing into a product. The factors are those of the heat equation on the grid, so
  that smoothing keeps the sum of the residuals, and residuals of one sign keep their sign.
  """
  at_B = confidence_B * cells
  node_B = np.minimum(at_B.astype(np.int64), cells - 1)
  share_B = at_B - node_B
  grid = np.bincount(node_B, residual_B * (1 - share_B), cells + 1)
  grid += np.bincount(node_B + 1, residual_B * share_B, cells + 1)
  grid[[0, -1]] *= 2  # an end node has half a cell, so the same sum is twice the density
  waves = fft.dct(grid, type=1)
  rate = (2 * cells * np.sin(np.linspace(0, np.pi / 2, cells + 1))) ** 2 / 2

  def error(sigma):
    smooth = np.abs(fft.idct(waves * np.exp(-(sigma**2) * rate), type=1))
    return smooth.sum() - (smooth[0] + smooth[-1]) / 2

  return error


def smooth_error(confidence_B, correct_B):
  """Return smooth_ece from confidences, to 1e-6."""
  confidence_B = np.clip(np.asarray(confidence_B, np.float64), 0, 1)
  residual_B = (correct_B - confidence_B) / len(confidence_B)
  # Smoothing keeps the sum of the residuals, so smECE_sigma is between these two for every sigma.
  least, most = abs(residual_B.sum()), np.abs(residual_B).sum()
  low, high = least, most
  for cells in _GRIDS:
    if high - low <= _PRECISION:
      break
    error = _smoothed(confidence_B, residual_B, cells)
    low, high = _fixed_point(error, low, high)
    # A grid moves the result by about 1 / (cells^2 sigma), and by less than 2 / cells.
    if cells**2 * low < 5e6 and cells != _GRIDS[-1]:
      low, high = max(least, low - 2 / cells), min(most, high + 2 / cells)
  return float((low + high) / 2)


def _fixed_point(function, low, high):
  """Return a short interval around the x where a falling function has the value x, by bisection."""
  while high - low > _PRECISION:
    x = (low + high) / 2
    y = function(x)
    low, high = (x, min(high, y)) if y > x else (max(low, y), x)  # it is between x and y, too
  return low, high


def smooth_ece(log_probs_BK, labels_B):
  """Return the smooth ECE of confidences (Blasiok and Nakkiran 2023, arXiv 2309.12236).

  With the confidence f = max_k p_k and c = 1[it is correct], smECE_sigma is the integral over t in
  [0, 1] of |mean_x (c - f) K_sigma(f, t)|, where K_sigma is the Gaussian kernel of standard
  deviation sigma, reflected at 0 and 1. The smooth ECE is the one sigma where smECE_sigma = sigma,
  found by bisection.
  """
  return smooth_error(confidence(log_probs_BK), correct(log_probs_BK, labels_B))


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

  Example:
    >>> confident_BK = np.log([[0.99, 0.01]] * 4)
    >>> T = fit_temperature(confident_BK, np.array([0, 0, 0, 1]))  # right in three of four
    >>> np.exp(apply_temperature(confident_BK, T)[0]).round(3)
    array([0.75, 0.25])
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


def usable_temperature(log_probs_BK, labels_B) -> float:
  """Return the T of `fit_temperature`, but 1 if the NLL only falls as T approaches zero.

  This happens if all examples are classified right. It says nothing about new examples, and the
  lower bound would make all of them certain.
  """
  found = float(fit_temperature(log_probs_BK, labels_B))
  return 1.0 if found <= TEMPERATURES[0] else found


def apply_temperature(log_probs_BK, T):
  """Return the log of p^(1/T) renormalised: float64 [B, K]."""
  if not T > 0:
    raise ValueError(f'temperature {T} must be positive')

  def soften(x_BK):
    x_BK = np.asarray(x_BK, np.float64)
    x_BK = (x_BK - x_BK.max(-1, keepdims=True)) / T
    return x_BK - np.log(np.exp(x_BK).sum(-1, keepdims=True))

  return in_blocks(soften, check(log_probs_BK))
