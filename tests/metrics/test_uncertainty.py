"""Rejection, ROC and rank metrics with ties, against scikit-learn, scipy and slow loops."""

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
