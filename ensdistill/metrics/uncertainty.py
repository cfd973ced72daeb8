"""Metrics of how uncertainty ranks examples: rejection of errors, ROC of two sets, correlation.

Higher scores mean less certain. Results do not depend on the order of examples of equal score.
"""

import math
from typing import NamedTuple

import numpy as np

from ensdistill.metrics.arrays import scores


class Rejection(NamedTuple):
  """Loss over all examples after rejecting 0..B of them; rejected examples have loss 0."""

  rejected: np.ndarray
  model: np.ndarray
  random: np.ndarray
  oracle: np.ndarray


def tied_mean(score_B, value_B):
  """Return value_B where examples of equal score share the mean of their values."""
  _, index_B, count = np.unique(score_B, return_inverse=True, return_counts=True)
  return (np.bincount(index_B, value_B) / count)[index_B]


def _pair(uncertainty_B, loss_B):
  """Return both as float64 vectors of the same length; refuse NaN and empty sets."""
  uncertainty_B, loss_B = scores(uncertainty_B), scores(loss_B)
  if len(uncertainty_B) != len(loss_B) or not len(loss_B):
    raise ValueError(
      f'{len(uncertainty_B)} uncertainties for {len(loss_B)} losses: both need one an example'
    )
  return uncertainty_B, loss_B


def rejection_curve(uncertainty_B, loss_B):
  """Return the loss (0-1 error, squared error) that is left when the most uncertain are rejected.

  Rejected examples count as correct and the loss is over ALL examples, as in EnD^2. `random`
  rejects at random, `oracle` the largest loss first. Equal uncertainties are rejected in random
  order.
  """
  uncertainty_B, loss_B = _pair(uncertainty_B, loss_B)

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
  """Return prr for any loss, in percent; NaN if all examples have the same loss."""
  curve = rejection_curve(uncertainty_B, loss_B)
  loss_B = np.asarray(loss_B)
  if loss_B.min() == loss_B.max():
    return float('nan')

  def area(y):
    return y[1:-1].sum() + (y[0] + y[-1]) / 2

  random = area(curve.random)
  return float(100 * (random - area(curve.model)) / (random - area(curve.oracle)))


def prr(uncertainty_B, correct_B):
  """Return the prediction rejection ratio in percent (Malinin et al., EnD^2).

  It is 100 * (area between the random and the model's rejection curve) / (area between the random
  and the oracle's). 100 rejects all errors first, 0 rejects at random. It is NaN if no prediction
  is wrong, and if all are.

  Example:
    >>> correct_B = np.array([True, True, True, False])
    >>> prr(np.array([0.1, 0.2, 0.3, 0.9]), correct_B)  # the error is the most uncertain one
    100.0
  """
  return rejection_ratio(uncertainty_B, 1.0 - np.asarray(correct_B, np.float64))


def _kept_loss(uncertainty_B, loss_B):
  """Return the summed loss of the k most certain examples, for k = 1..B.

  Examples of equal uncertainty share their mean loss: the sum is the expected one if they are
  ordered at random.
  """
  uncertainty_B, loss_B = _pair(uncertainty_B, loss_B)
  order_B = np.argsort(uncertainty_B, kind='stable')
  return np.cumsum(tied_mean(uncertainty_B, loss_B)[order_B])


def aurc(uncertainty_B, loss_B):
  """Return the area under the risk-coverage curve (Geifman et al. 2019).

  It is (1/B) sum_k R_k for k = 1..B, where R_k is the mean loss of the k most certain examples.
  Examples of equal uncertainty share their mean loss. The loss is usually the 0-1 error.
  """
  kept_B = _kept_loss(uncertainty_B, loss_B)
  return float((kept_B / np.arange(1, len(kept_B) + 1)).mean())


def augrc(uncertainty_B, loss_B):
  """Return the area under the generalised risk-coverage curve (Traub et al. 2024).

  It is (1/B) sum_k G_k for k = 1..B, where G_k is the summed loss of the k most certain examples,
  divided by B. Examples of equal uncertainty share their mean loss.
  """
  kept_B = _kept_loss(uncertainty_B, loss_B)
  return float(kept_B.mean() / len(kept_B))


def _kept_errors(uncertainty_B, correct_B):
  """Return the error of the k most certain examples for k = 1..B, each correctly rounded.

  Examples of equal uncertainty share their mean error. Numerators and denominators are whole
  numbers, so that an error of 1 in 20 equals a risk of 0.05.
  """
  correct_B = np.asarray(correct_B, bool).reshape(-1)
  uncertainty_B, _ = _pair(uncertainty_B, correct_B)
  _, group_B, size = np.unique(uncertainty_B, return_inverse=True, return_counts=True)
  wrong = np.bincount(group_B, ~correct_B).astype(np.int64)
  end, wrong_before = np.cumsum(size), np.cumsum(wrong) - wrong
  k_B = np.arange(1, len(group_B) + 1)
  at_B = np.repeat(np.arange(len(size)), size)
  inside_B = k_B - (end - size)[at_B]  # examples of the group among the k
  wrong_B = wrong_before[at_B] * size[at_B] + inside_B * wrong[at_B]
  return wrong_B / (k_B * size[at_B])


def coverage_at_risk(uncertainty_B, correct_B, risk):
  """Return the largest k / B whose k most certain examples have an error of at most `risk`.

  It is 0 if there is no such k. The error of k examples is the share of wrong predictions among
  them (Geifman and El-Yaniv 2017). Examples of equal uncertainty share their mean error, as in
  aurc.
  """
  if not 0 <= risk <= 1:
    raise ValueError(f'risk={risk} must be between 0 and 1')
  error_B = _kept_errors(uncertainty_B, correct_B)
  allowed = np.flatnonzero(error_B <= risk)
  return float((allowed[-1] + 1) / len(error_B)) if len(allowed) else 0.0


def risk_at_coverage(uncertainty_B, correct_B, coverage):
  """Return the error of the ceil(coverage * B) most certain examples.

  Examples of equal uncertainty share their mean error, as in aurc.
  """
  if not 0 < coverage <= 1:
    raise ValueError(f'coverage={coverage} must be above 0 and at most 1')
  error_B = _kept_errors(uncertainty_B, correct_B)
  kept = math.ceil(coverage * len(error_B) * (1 - 1e-12))  # .07 * 100 is above 7 in floats
  return float(error_B[kept - 1])


def _counts(scores_in, scores_out):
  """Return the numbers of examples of in and of out at or above each distinct score, falling."""
  scores_in, scores_out = scores(scores_in), scores(scores_out)
  levels, index = np.unique(np.concatenate([scores_in, scores_out]), return_inverse=True)

  def count(part):
    return np.cumsum(np.bincount(part, minlength=len(levels))[::-1])

  return count(index[: len(scores_in)]), count(index[len(scores_in) :])


def auroc(scores_in, scores_out):
  """Return the area under the ROC curve, with out as the positive class.

  It is P(score of out > score of in) + P(equal) / 2, and NaN if either is empty.

  Example:
    >>> auroc([0.1, 0.2, 0.4], [0.3, 0.9])
    0.8333333333333334
  """
  if not np.size(scores_in) or not np.size(scores_out):
    return float('nan')
  false, true = (np.append(0, c).astype(np.float64) for c in _counts(scores_in, scores_out))
  return float((np.diff(false) * (true[1:] + true[:-1])).sum() / (2 * false[-1] * true[-1]))


def aupr(scores_in, scores_out):
  """Return the average precision, with out as the positive class.

  It is sum_n (recall_n - recall_{n-1}) precision_n over distinct thresholds, without interpolation,
  and NaN if either is empty.
  """
  if not np.size(scores_in) or not np.size(scores_out):
    return float('nan')
  false, true = _counts(scores_in, scores_out)
  return float((np.diff(true, prepend=0) * true / (true + false)).sum() / true[-1])


def fpr95(scores_in, scores_out):
  """Return the share of in above the highest threshold that detects 95 % of out.

  Thresholds are the scores themselves, without interpolation. It is NaN if either is empty.
  """
  if not np.size(scores_in) or not np.size(scores_out):
    return float('nan')
  false, true = _counts(scores_in, scores_out)
  found = np.argmax(100 * true >= 95 * true[-1])  # in integers: .95 n is inexact in floats
  return float(false[found] / false[-1])


def _ranks(values_B):
  """Return ranks from 0; equal values share the mean of their ranks."""
  _, index_B, count = np.unique(scores(values_B), return_inverse=True, return_counts=True)
  return (np.cumsum(count) - (count + 1) / 2)[index_B]


def rank_correlation(a_B, b_B):
  """Return Spearman's rank correlation; NaN for one example, and if either is constant."""
  a_B, b_B = (r - r.mean() for r in (_ranks(a_B), _ranks(b_B)))
  if len(a_B) != len(b_B):
    raise ValueError(f'{len(a_B)} values against {len(b_B)}: both need one an example')
  norm = np.sqrt((a_B**2).sum() * (b_B**2).sum())
  return float(np.clip((a_B * b_B).sum() / norm, -1, 1)) if norm > 0 else float('nan')
