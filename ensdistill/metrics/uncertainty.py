"""How well a score of uncertainty ranks: errors by rejection, two sets by ROC, two scores by rank.

Higher scores mean more uncertain. Equal scores never depend on the order of examples.
"""

from typing import NamedTuple

import numpy as np

from ensdistill.metrics.arrays import scores


class Rejection(NamedTuple):
  """Loss left, as a share of all examples, after rejecting 0..B examples; rejected ones lose 0."""

  rejected: np.ndarray
  model: np.ndarray
  random: np.ndarray
  oracle: np.ndarray


def tied_mean(score_B, value_B):
  """value_B, but examples of equal score share the mean of theirs."""
  _, index_B, count = np.unique(score_B, return_inverse=True, return_counts=True)
  return (np.bincount(index_B, value_B) / count)[index_B]


def rejection_curve(uncertainty_B, loss_B):
  """What is left of a loss (0-1 error, squared error) when the most uncertain are rejected.

  Rejected examples count as right and the loss is over ALL examples, as in EnD^2. `random` rejects
  blindly, `oracle` the largest loss first; equal uncertainties are rejected in random order.
  """
  uncertainty_B, loss_B = scores(uncertainty_B), scores(loss_B)
  if len(uncertainty_B) != len(loss_B) or not len(loss_B):
    raise ValueError(f'{len(uncertainty_B)} uncertainties for {len(loss_B)} losses: one each')

  def left(order_B, loss_B):
    kept = np.cumsum(loss_B[order_B][::-1])[::-1] / len(loss_B)
    return np.append(kept, 0.0)

  rejected = np.linspace(0, 1, len(loss_B) + 1)
  most_uncertain = np.argsort(-uncertainty_B, kind='stable')
  return Rejection(
    rejected,
    left(most_uncertain, tied_mean(uncertainty_B, loss_B)),
    loss_B.mean() * (1 - rejected),
    left(np.argsort(-loss_B, kind='stable'), loss_B),
  )


def rejection_ratio(uncertainty_B, loss_B):
  """prr for any loss, in percent; NaN where every example loses the same."""
  curve = rejection_curve(uncertainty_B, loss_B)
  loss_B = np.asarray(loss_B)
  if loss_B.min() == loss_B.max():
    return float('nan')
  area = lambda y: y[1:-1].sum() + (y[0] + y[-1]) / 2
  random = area(curve.random)
  return float(100 * (random - area(curve.model)) / (random - area(curve.oracle)))


def prr(uncertainty_B, correct_B):
  """Prediction rejection ratio in percent (Malinin et al., EnD^2).

  100 * (area between the random and the model's rejection curve) / (area between the random and the
  oracle's): 100 rejects all errors first, 0 is blind. NaN without an error, or with errors alone.
  """
  return rejection_ratio(uncertainty_B, 1.0 - np.asarray(correct_B, np.float64))


def _counts(scores_in, scores_out):
  """For falling thresholds, each distinct score once: examples of in and of out at or above it."""
  scores_in, scores_out = scores(scores_in), scores(scores_out)
  levels, index = np.unique(np.concatenate([scores_in, scores_out]), return_inverse=True)
  count = lambda part: np.cumsum(np.bincount(part, minlength=len(levels))[::-1])
  return count(index[: len(scores_in)]), count(index[len(scores_in) :])


def auroc(scores_in, scores_out):
  """P(score of out > score of in) + P(equal) / 2: the ROC area with out as the positive class.

  NaN where either is empty.
  """
  if not np.size(scores_in) or not np.size(scores_out):
    return float('nan')
  false, true = (np.append(0, c).astype(np.float64) for c in _counts(scores_in, scores_out))
  return float((np.diff(false) * (true[1:] + true[:-1])).sum() / (2 * false[-1] * true[-1]))


def aupr(scores_in, scores_out):
  """Average precision with out as the positive class, sum_n (recall_n - recall_{n-1}) precision_n.

  Over distinct thresholds, without interpolation. NaN where either is empty.
  """
  if not np.size(scores_in) or not np.size(scores_out):
    return float('nan')
  false, true = _counts(scores_in, scores_out)
  return float((np.diff(true, prepend=0) * true / (true + false)).sum() / true[-1])


def fpr95(scores_in, scores_out):
  """Share of in that is taken for out at the highest threshold that finds 95 % of out.

  Thresholds are the scores themselves, without interpolation. NaN where either is empty.
  """
  if not np.size(scores_in) or not np.size(scores_out):
    return float('nan')
  false, true = _counts(scores_in, scores_out)
  found = np.argmax(100 * true >= 95 * true[-1])  # in whole numbers: .95 n is not one in floats
  return float(false[found] / false[-1])


def _ranks(values_B):
  """Ranks from 0; equal values share the mean of theirs."""
  _, index_B, count = np.unique(scores(values_B), return_inverse=True, return_counts=True)
  return (np.cumsum(count) - (count + 1) / 2)[index_B]


def rank_correlation(a_B, b_B):
  """Spearman's rank correlation; NaN where either is constant, or of one example."""
  a_B, b_B = (r - r.mean() for r in (_ranks(a_B), _ranks(b_B)))
  if len(a_B) != len(b_B):
    raise ValueError(f'{len(a_B)} values against {len(b_B)}: one each')
  norm = np.sqrt((a_B**2).sum() * (b_B**2).sum())
  return float(np.clip((a_B * b_B).sum() / norm, -1, 1)) if norm > 0 else float('nan')
