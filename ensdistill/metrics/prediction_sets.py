"""Conformal prediction sets: thresholds from validation data, sizes and coverage on test data.

A class enters the set of an example if its score is at most the threshold (split conformal
prediction). A set may be empty. There are three kinds of scores. For the last two, classes are
ranked by falling probability, and equal probabilities by the index of the class:

- lac: -log p_k (least ambiguous sets, Sadinle et al. 2019).
- aps: sum of p_j over the classes j ranked before k, plus u p_k (adaptive prediction sets, Romano
  et al. 2020).
- raps: aps + penalty * max(0, rank_k - k_reg), with ranks from 1 (regularised adaptive prediction
  sets, Angelopoulos et al. 2021).

With a seed, aps and raps are randomised: u is uniform in [0, 1], one number per example. Without a
seed, u = 1.
"""

import math

import numpy as np

from ensdistill import names
from ensdistill.metrics.arrays import check, in_blocks, normalized
from ensdistill.metrics.scoring import label_log_probs

KINDS = 'lac', 'aps', 'raps'
PENALTY, K_REG = 0.01, 5
_PARTS = 'valid', 'test'


def uniforms(size, seed, part):
  """Return u of the examples of one part, 'valid' or 'test': [B]; ones if seed is None."""
  if seed is None:
    return np.ones(size)
  return np.random.default_rng([seed, _PARTS.index(part)]).random(size)


def scores(log_probs_BK, labels_B, u_B, *, penalty=PENALTY, k_reg=K_REG):
  """Return {kind: (scores of the classes [B, K], scores of the labels [B])}.

  log_probs must be normalised. The classes of aps and raps are ordered by rank, the last one first.
  """
  probs_BK, labels_B1 = np.exp(log_probs_BK), labels_B[:, None]
  index_K = np.arange(probs_BK.shape[1])
  own_B1 = np.take_along_axis(probs_BK, labels_B1, -1)
  behind_BK = (probs_BK < own_B1) | (probs_BK == own_B1) & (index_K > labels_B1)
  at_B1 = behind_BK.sum(-1, keepdims=True)
  probs_BK.sort(-1)
  # The sum over the classes before k is 1 - p_k - (sum over the classes after k).
  after_BK = np.zeros_like(probs_BK)
  np.cumsum(probs_BK[:, :-1], -1, out=after_BK[:, 1:])
  aps_BK = 1 - after_BK - (1 - u_B[:, None]) * probs_BK
  raps_BK = aps_BK + penalty * np.maximum(index_K[::-1] + 1 - k_reg, 0)
  found = {'lac': (-log_probs_BK, -label_log_probs(log_probs_BK, labels_B))}
  for kind, score_BK in (('aps', aps_BK), ('raps', raps_BK)):
    found[kind] = score_BK, np.take_along_axis(score_BK, at_B1, -1)[:, 0]
  return found


def threshold(score_B, coverage=0.9):
  """Return the ceil((n + 1) coverage)-th smallest of the labels' scores; inf if n is too small."""
  if not 0 < coverage < 1:
    raise ValueError(f'coverage={coverage} must be between 0 and 1')
  rank = math.ceil((len(score_B) + 1) * coverage * (1 - 1e-12))
  return float(np.sort(score_B)[rank - 1]) if rank <= len(score_B) else math.inf


def label_scores(log_probs_BK, labels_B, *, seed=None, **settings):
  """Return {kind: scores of the labels [B]} of validation data."""
  log_probs_BK, labels_B = check(log_probs_BK, labels_B)

  def per_example(x, y, u):
    return tuple(own for _, own in scores(normalized(x), y, u, **settings).values())

  u_B = uniforms(len(labels_B), seed, 'valid')
  return dict(zip(KINDS, in_blocks(per_example, log_probs_BK, labels_B, u_B), strict=True))


def conformal_threshold(log_probs_BK, labels_B, coverage=0.9, kind='lac', **settings):
  """Return the largest score of a class that enters a prediction set, from validation data.

  It is the ceil((n + 1) coverage)-th smallest score of a label. A set then holds the label of a new
  example with at least this probability. If n is too small, it is inf: all classes enter. Settings
  are seed, penalty and k_reg.
  """
  names.check('kind of prediction sets', kind, KINDS)
  return threshold(label_scores(log_probs_BK, labels_B, **settings)[kind], coverage)


def conformal_sets(log_probs_BK, labels_B, threshold, kind='lac', *, seed=None, **settings):
  """Return the size of each prediction set, and whether it holds the label: [B], [B]."""
  names.check('kind of prediction sets', kind, KINDS)
  log_probs_BK, labels_B = check(log_probs_BK, labels_B)

  def per_example(x, y, u):
    score_BK, own_B = scores(normalized(x), y, u, **settings)[kind]
    return (score_BK <= threshold).sum(-1), own_B <= threshold

  return in_blocks(per_example, log_probs_BK, labels_B, uniforms(len(labels_B), seed, 'test'))


def members(log_probs_BK, threshold, kind='lac'):
  """Return which classes enter each prediction set, bool [B, K]; sets are not randomised."""
  names.check('kind of prediction sets', kind, KINDS)

  def per_example(x):
    log_p_BK = normalized(x)
    if kind == 'lac':
      return -log_p_BK <= threshold
    first_B, ones_B = np.zeros(len(x), np.int64), np.ones(len(x))
    score_BK = scores(log_p_BK, first_B, ones_B)[kind][0]
    # From the last rank to the first: rising probability, and falling index where equal.
    rank_BK = len(log_p_BK[0]) - 1 - np.argsort(np.exp(log_p_BK)[:, ::-1], -1, kind='stable')
    found_BK = np.empty(score_BK.shape, bool)
    np.put_along_axis(found_BK, rank_BK, score_BK <= threshold, -1)
    return found_BK

  return in_blocks(per_example, check(log_probs_BK))


def conformal(
  log_probs_BK, labels_B, valid_log_probs_BK, valid_labels_B, coverage=0.9, kind='lac', **settings
):
  """Return the mean size of conformal prediction sets, and the share that holds the label.

  The kind is 'lac', 'aps' or 'raps'; see the top of this module. Settings are seed (default: not
  randomised), penalty (0.01) and k_reg (5).
  """
  at_most = conformal_threshold(valid_log_probs_BK, valid_labels_B, coverage, kind, **settings)
  size_B, covered_B = conformal_sets(log_probs_BK, labels_B, at_most, kind, **settings)
  return float(size_B.mean()), float(covered_B.mean())
