"""Rejection, ROC and rank metrics with ties, against scikit-learn, scipy and slow loops."""

import fractions
import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics as sklearn

from ensdistill import metrics
from ensdistill.metrics import uncertainty

QUICK = settings(max_examples=40, deadline=None, derandomize=True)


def two_sets(seed, n_in, n_out, levels):
  """Draw two sets of scores. With few levels there are many ties, with many levels hardly any."""
  rng = np.random.default_rng(seed)
  return rng.integers(0, levels, n_in) / 7, rng.integers(levels // 3, levels + 1, n_out) / 7


@QUICK
@given(
  st.integers(0, 10**6), st.integers(1, 60), st.integers(1, 60), st.sampled_from([1, 4, 10**6])
)
def test_roc_metrics_equal_sklearn(seed, n_in, n_out, levels):
  a, b = two_sets(seed, n_in, n_out, levels)
  scores, is_out = np.concatenate([a, b]), np.repeat([0, 1], [n_in, n_out])
  auroc = metrics.auroc(a, b)
  assert auroc == pytest.approx(sklearn.roc_auc_score(is_out, scores), abs=1e-12)
  assert auroc == pytest.approx(1 - metrics.auroc(b, a), abs=1e-12)
  assert auroc == pytest.approx(1 - metrics.auroc(-a, -b), abs=1e-12)
  assert auroc == pytest.approx(metrics.auroc(np.exp(a / 1e6), np.exp(b / 1e6)), abs=1e-12)
  expected = sklearn.average_precision_score(is_out, scores)
  assert metrics.aupr(a, b) == pytest.approx(expected, abs=1e-12)
  false, true, _ = sklearn.roc_curve(is_out, scores, drop_intermediate=False)
  enough = true * n_out > 0.95 * n_out - 1e-9
  assert metrics.fpr95(a, b) == pytest.approx(false[enough].min(), abs=1e-12)


def test_roc_metrics_by_hand():
  assert metrics.auroc([1, 2, 3], [4, 5]) == 1
  assert metrics.auroc([4, 5], [1, 2, 3]) == 0
  assert metrics.auroc([1, 3], [2, 3]) == pytest.approx((1 + 0.5 + 0 + 1) / 4)
  for n in (1, 5):
    assert metrics.auroc([2] * 3, [2] * n) == 0.5
    assert metrics.aupr([2] * 3, [2] * n) == n / (n + 3)
    assert metrics.fpr95([2] * 3, [2] * n) == 1
  # 19 of 20 are 95 %: the last one may be missed.
  assert metrics.fpr95([0.5], [*range(1, 20), 0]) == 0
  assert metrics.fpr95([0.5], [*range(1, 20), 0, 0]) == 1


@pytest.mark.parametrize('metric', [metrics.auroc, metrics.aupr, metrics.fpr95])
def test_roc_metrics_of_one_class_are_not_defined(metric):
  assert math.isnan(metric([], [1.0])) and math.isnan(metric([1.0], []))
  with pytest.raises(ValueError, match='NaN'):
    metric([np.nan], [1.0])


def slow_prr(uncertainty_B, correct_B, draws=1):
  """Return the PRR from curves computed point by point, with ties in random order."""
  rng, n = np.random.default_rng(0), len(correct_B)
  wrong_B = 1 - np.asarray(correct_B, float)

  def area(order):
    left = [wrong_B[order[r:]].sum() / n for r in range(n + 1)]
    return np.trapezoid(left, np.arange(n + 1) / n)

  def by(score_B):
    shuffle = rng.permutation(n)
    return shuffle[np.argsort(-score_B[shuffle], kind='stable')]

  model = np.mean([area(by(np.asarray(uncertainty_B))) for _ in range(draws)])
  random = wrong_B.mean() / 2
  return 100 * (random - model) / (random - area(by(wrong_B)))


def test_prr_by_hand():
  assert metrics.prr([3, 2, 1, 0], [False, True, True, True]) == pytest.approx(100)
  assert metrics.prr([0, 1, 2, 3], [False, True, True, True]) == pytest.approx(-100)
  assert metrics.prr([1, 1, 1, 1], [False, True, True, True]) == pytest.approx(0, abs=1e-12)


def test_prr_without_contrast_is_not_defined():
  assert math.isnan(metrics.prr([1.0, 2.0], [True, True]))
  assert math.isnan(metrics.prr([1.0, 2.0], [False, False]))
  assert math.isnan(metrics.prr([1.0], [True]))


@QUICK
@given(st.integers(0, 10**6), st.integers(2, 50))
def test_prr_equals_a_slow_loop(seed, batch):
  rng = np.random.default_rng(seed)
  uncertainty_B, correct_B = rng.normal(size=batch), rng.random(batch) < 0.7
  correct_B[:2] = [True, False]
  ours = metrics.prr(uncertainty_B, correct_B)
  assert ours == pytest.approx(slow_prr(uncertainty_B, correct_B), abs=1e-8)
  assert -100 - 1e-9 <= ours <= 100 + 1e-9
  order_B = rng.permutation(batch)
  assert metrics.prr(uncertainty_B[order_B], correct_B[order_B]) == pytest.approx(ours, abs=1e-8)
  # PRR is the AUROC of finding the errors, on another scale.
  auroc = metrics.auroc(uncertainty_B[correct_B], uncertainty_B[~correct_B])
  assert ours == pytest.approx(100 * (2 * auroc - 1), abs=1e-8)


def test_prr_of_ties_is_the_mean_over_their_orders():
  rng = np.random.default_rng(0)
  uncertainty_B, correct_B = rng.integers(0, 3, 30), rng.random(30) < 0.6
  expected = slow_prr(uncertainty_B, correct_B, draws=4000)
  assert metrics.prr(uncertainty_B, correct_B) == pytest.approx(expected, abs=0.5)


def test_rejection_curve_by_hand():
  curve = metrics.rejection_curve([0.1, 0.9, 0.5, 0.5], [4.0, 2.0, 0.0, 2.0])
  np.testing.assert_allclose(curve.rejected, [0, 0.25, 0.5, 0.75, 1])
  np.testing.assert_allclose(curve.model, [2, 1.5, 1.25, 1, 0])
  np.testing.assert_allclose(curve.random, [2, 1.5, 1, 0.5, 0])
  np.testing.assert_allclose(curve.oracle, [2, 1, 0.5, 0, 0])
  assert uncertainty.rejection_ratio([4, 2, 0, 2], [4, 2, 0, 2]) == pytest.approx(100)
  with pytest.raises(ValueError, match='both need one an example'):
    metrics.rejection_curve([1.0], [1.0, 2.0])


def orders(uncertainty_B):
  """Yield all orders of the examples from the most certain one, those of ties included."""
  for order in itertools.permutations(range(len(uncertainty_B))):
    if all(uncertainty_B[i] <= uncertainty_B[j] for i, j in itertools.pairwise(order)):
      yield list(order)


@QUICK
@given(st.integers(0, 10**6), st.integers(1, 6), st.sampled_from([1, 3, 10**6]))
def test_risk_coverage_areas_are_the_mean_over_the_orders_of_ties(seed, batch, levels):
  rng = np.random.default_rng(seed)
  uncertainty_B, loss_B = rng.integers(0, levels, batch) / 7, rng.exponential(1, batch)
  kept = [[loss_B[order[:k]] for k in range(1, batch + 1)] for order in orders(uncertainty_B)]
  risk = [np.mean([losses.mean() for losses in of_order]) for of_order in kept]
  general = [np.mean([losses.sum() / batch for losses in of_order]) for of_order in kept]
  assert metrics.aurc(uncertainty_B, loss_B) == pytest.approx(np.mean(risk), abs=1e-9)
  assert metrics.augrc(uncertainty_B, loss_B) == pytest.approx(np.mean(general), abs=1e-9)


def test_risk_coverage_areas_by_hand():
  uncertainty_B, loss_B = [0.1, 0.9, 0.5, 0.5], [0.0, 1.0, 0.0, 1.0]
  assert metrics.aurc(uncertainty_B, loss_B) == pytest.approx((0 + 0.25 + 1 / 3 + 0.5) / 4)
  assert metrics.augrc(uncertainty_B, loss_B) == pytest.approx((0 + 0.5 + 1 + 2) / 16)
  for loss, size in ((0.0, 5), (1.0, 5), (1.0, 1), (0.25, 3)):
    for uncertainty_B in (np.arange(size), np.zeros(size)):
      losses = np.full(size, loss)
      assert metrics.aurc(uncertainty_B, losses) == pytest.approx(loss)
      assert metrics.augrc(uncertainty_B, losses) == pytest.approx(loss * (size + 1) / (2 * size))
  # Without any ranking: the mean loss.
  assert metrics.aurc(np.ones(4), [1.0, 0.0, 0.0, 1.0]) == pytest.approx(0.5)
  assert metrics.aurc([0.0, np.inf], [0.0, 1.0]) == pytest.approx(0.25)
  for area in metrics.aurc, metrics.augrc:
    with pytest.raises(ValueError, match='both need one an example'):
      area([1.0], [1.0, 2.0])
    with pytest.raises(ValueError, match='both need one an example'):
      area([], [])
    with pytest.raises(ValueError, match='NaN'):
      area([np.nan], [1.0])


def slow_errors(uncertainty_B, correct_B):
  """Return the error of the k most certain for all k, in fractions; equals share their mean."""
  wrong_B = []
  for level in sorted(set(uncertainty_B)):
    group = [not c for u, c in zip(uncertainty_B, correct_B) if u == level]
    wrong_B += [fractions.Fraction(sum(group), len(group))] * len(group)
  return [sum(wrong_B[:k]) / k for k in range(1, len(wrong_B) + 1)]


@QUICK
@given(
  st.integers(0, 10**6), st.integers(1, 40), st.sampled_from([1, 4, 10**6]), st.integers(0, 100)
)
def test_coverage_at_risk_and_risk_at_coverage_equal_slow_loops(seed, batch, levels, percent):
  rng = np.random.default_rng(seed)
  uncertainty_B, correct_B = rng.integers(0, levels, batch), rng.random(batch) < 0.7
  errors = slow_errors(uncertainty_B, correct_B)
  allowed = [k for k, e in enumerate(errors, 1) if e <= fractions.Fraction(percent, 100)]
  ours = metrics.coverage_at_risk(uncertainty_B, correct_B, percent / 100)
  assert ours == pytest.approx(max(allowed, default=0) / batch, abs=1e-12)
  kept = -(-max(percent, 1) * batch // 100)
  ours = metrics.risk_at_coverage(uncertainty_B, correct_B, max(percent, 1) / 100)
  assert ours == pytest.approx(float(errors[kept - 1]), abs=1e-12)


def test_coverage_at_risk_by_hand():
  correct_B = np.array([True, False, True, True, False])
  assert metrics.coverage_at_risk(np.arange(5), correct_B, 0.25) == 0.8  # beyond a worse k
  assert metrics.coverage_at_risk(np.arange(5), correct_B, 0.0) == 0.2
  assert metrics.coverage_at_risk(np.arange(5), correct_B, 0.4) == 1
  assert metrics.coverage_at_risk(np.zeros(5), correct_B, 0.39) == 0
  assert metrics.coverage_at_risk(np.zeros(5), correct_B, 0.4) == 1
  for size in (1, 4):
    assert metrics.coverage_at_risk(np.arange(size), np.ones(size, bool), 0.0) == 1
    assert metrics.coverage_at_risk(np.arange(size), np.zeros(size, bool), 0.99) == 0
  # An error of exactly 29 in 100 is allowed by a risk of .29.
  assert metrics.coverage_at_risk(np.zeros(100), np.arange(100) >= 29, 0.29) == 1
  with pytest.raises(ValueError, match=r'risk=1\.5 must be'):
    metrics.coverage_at_risk([1.0], [True], 1.5)


def test_risk_at_coverage_by_hand():
  correct_B = np.array([True, False, True, True, False])
  found = [metrics.risk_at_coverage(np.arange(5), correct_B, c) for c in (0.1, 0.2, 0.21, 0.8, 1)]
  assert found == pytest.approx([0, 0, 0.5, 0.25, 0.4])
  assert metrics.risk_at_coverage(np.zeros(5), correct_B, 0.2) == pytest.approx(0.4)
  wrong_in_eighth_place = np.arange(100) != 7
  assert metrics.risk_at_coverage(np.arange(100), wrong_in_eighth_place, 0.07) == 0
  for coverage in (0, 1.1, float('nan')):
    with pytest.raises(ValueError, match='coverage='):
      metrics.risk_at_coverage([1.0], [True], coverage)


@QUICK
@given(st.integers(0, 10**6), st.integers(3, 40), st.sampled_from([3, 10**6]))
def test_rank_correlation_equals_scipy(seed, batch, levels):
  a_B, b_B = np.random.default_rng(seed).integers(0, levels, (2, batch)).astype(float)
  a_B[:2] = b_B[1:3] = [0, 1]
  b_B[0] = 5
  ours = metrics.rank_correlation(a_B, b_B)
  assert ours == pytest.approx(stats.spearmanr(a_B, b_B).statistic, abs=1e-12)
  assert ours == metrics.rank_correlation(b_B, a_B)
  assert metrics.rank_correlation(a_B, np.exp(a_B / 1e6)) == pytest.approx(1)
  assert metrics.rank_correlation(a_B, -a_B) == pytest.approx(-1)


def test_rank_correlation_of_a_constant_is_not_defined():
  assert math.isnan(metrics.rank_correlation([1, 1, 1], [1, 2, 3]))
  assert math.isnan(metrics.rank_correlation([1], [1]))
  with pytest.raises(ValueError, match='both need one an example'):
    metrics.rank_correlation([1, 2], [1, 2, 3])
