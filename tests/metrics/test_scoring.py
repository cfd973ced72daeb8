"""Scores and calibration against closed forms, slow loops and scikit-learn."""

import math

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize, special
from sklearn import metrics as sklearn

from ensdistill import metrics
from ensdistill.metrics import calibration

QUICK = settings(max_examples=25, deadline=None, derandomize=True)


def predictions(seed, batch=200, classes=5, signal=1.0, scale=1.5):
  rng = np.random.default_rng(seed)
  labels_B = rng.integers(0, classes, batch)
  z_BK = rng.normal(0, 1, (batch, classes))
  z_BK[np.arange(batch), labels_B] += signal
  return special.log_softmax(scale * z_BK, -1), labels_B


def two_classes(confidences, correct):
  """Return predictions of class 0 with these confidences; the label is 0 where correct."""
  p_B = np.asarray(confidences)
  with np.errstate(divide='ignore'):
    return np.log(np.stack([p_B, 1 - p_B], -1)), 1 - np.asarray(correct, int)


def test_scores_equal_sklearn():
  log_probs_BK, labels_B = predictions(0)
  p_BK = np.exp(log_probs_BK)
  assert metrics.accuracy(log_probs_BK, labels_B) == np.mean(p_BK.argmax(1) == labels_B)
  np.testing.assert_allclose(
    metrics.nll(log_probs_BK, labels_B), sklearn.log_loss(labels_B, p_BK), rtol=1e-9
  )
  error_BK = p_BK - np.eye(5)[labels_B]
  np.testing.assert_allclose(metrics.brier(log_probs_BK, labels_B), (error_BK**2).sum(-1).mean())
  as_jax = jnp.asarray(log_probs_BK, jnp.float32), jnp.asarray(labels_B)
  assert isinstance(metrics.nll(*as_jax), float)
  np.testing.assert_allclose(metrics.nll(*as_jax), metrics.nll(log_probs_BK, labels_B), rtol=1e-6)


def test_scores_of_certain_predictions():
  log_probs_BK, labels_B = two_classes([1.0, 1.0], [True, False])
  assert metrics.nll(log_probs_BK[:1], labels_B[:1]) == 0
  assert metrics.brier(log_probs_BK[:1], labels_B[:1]) == 0
  assert metrics.nll(log_probs_BK, labels_B) == np.inf
  assert metrics.brier(log_probs_BK, labels_B) == 1.0
  assert metrics.accuracy(log_probs_BK, labels_B) == 0.5


def test_member_accuracies():
  members = [predictions(seed)[0] for seed in range(3)]
  labels_B = predictions(0)[1]
  expected = [metrics.accuracy(log_probs_BK, labels_B) for log_probs_BK in members]
  np.testing.assert_array_equal(metrics.member_accuracies(np.stack(members, 1), labels_B), expected)


def test_renormalising_restores_the_digits_of_float32():
  """In float32, log p = 0 for a class of probability 1 - 1e-9."""
  log_probs_BK = np.log(np.float32([[1.0, 1e-9]]))
  np.testing.assert_allclose(metrics.nll(log_probs_BK, [0]), 1e-9, rtol=1e-6)


@pytest.mark.parametrize(
  'log_probs, labels, message',
  [
    (np.zeros((0, 3)), [], 'no examples'),
    (np.log([[0.5, 0.5]]), [-1], 'label -1'),
    (np.log([[0.5, 0.5]]), [2], 'label 2'),
    (np.log([[0.5, 0.5]]), [0, 1], 'one label an example'),
    (np.array([[3.0, 1.0]]), [0], 'log of a softmax'),
    (np.array([[np.nan, 0.0]]), [0], 'log of a softmax'),
    (np.array([[-np.inf, -np.inf]]), [0], 'log of a softmax'),
  ],
)
def test_inputs_that_are_refused(log_probs, labels, message):
  for metric in metrics.nll, metrics.brier, metrics.ece, metrics.fit_temperature:
    with pytest.raises(ValueError, match=message):
      metric(log_probs, np.array(labels, int))


def slow_ece(log_probs_BK, labels_B, bins):
  p_BK, error = np.exp(log_probs_BK), 0.0
  for b in range(bins):
    low, high = b / bins, (b + 1) / bins
    members = [i for i, p_K in enumerate(p_BK) if low < p_K.max() <= high]
    if members:
      accuracy = np.mean([p_BK[i].argmax() == labels_B[i] for i in members])
      error += len(members) / len(p_BK) * abs(accuracy - np.mean([p_BK[i].max() for i in members]))
  return error


@pytest.mark.parametrize('bins', [1, 10, 15, 100])
def test_ece_equals_a_slow_loop(bins):
  log_probs_BK, labels_B = predictions(1)
  np.testing.assert_allclose(
    metrics.ece(log_probs_BK, labels_B, bins), slow_ece(log_probs_BK, labels_B, bins), rtol=1e-9
  )


@pytest.mark.parametrize('dtype', [np.float32, np.float64])
def test_a_confidence_on_an_edge_is_in_the_lower_bin(dtype):
  """Bins are (l, u]: of 15 bins, the twelfth ends at .8 and the last at 1."""
  for k in range(8, 16):
    log_probs_BK, labels_B = two_classes([k / 15], [True])
    table = metrics.reliability(log_probs_BK.astype(dtype), labels_B)
    assert table.count.nonzero()[0].tolist() == [k - 1], k
  table = metrics.reliability(*two_classes([0.8001, 0.8, 0.95, 1.0], [1, 0, 1, 0]))
  assert table.count.tolist() == [0] * 11 + [1, 1, 0, 2]
  np.testing.assert_allclose(table.accuracy[[11, 12, 14]], [0, 1, 0.5])
  np.testing.assert_allclose(table.confidence[[11, 12, 14]], [0.8, 0.8001, 0.975])
  assert np.isnan(table.accuracy[13]) and np.isnan(table.confidence[0])
  np.testing.assert_allclose([table.lower[11], table.upper[11]], [11 / 15, 0.8])


def test_a_confidence_of_zero_is_in_the_first_bin():
  table = calibration.bin_table(np.array([0.0, 1e-20, 1.0]), np.array([False, True, True]))
  assert table.count[[0, 14]].tolist() == [2, 1]


def test_ece_by_hand():
  assert metrics.ece(*two_classes([1.0] * 4, [1, 1, 1, 1])) == 0
  assert metrics.ece(*two_classes([1.0] * 4, [0, 0, 0, 0])) == 1
  assert metrics.ece(*two_classes([0.75] * 4, [1, 1, 1, 0])) == pytest.approx(0, abs=1e-12)
  assert metrics.ece(*two_classes([0.6], [1])) == pytest.approx(0.4)


def test_adaptive_ece_by_hand():
  inputs = two_classes([0.6, 0.7, 0.8, 0.9], [1, 0, 1, 1])
  assert metrics.adaptive_ece(*inputs, bins=2) == pytest.approx((0.15 + 0.15) / 2)
  assert metrics.adaptive_ece(*inputs, bins=100) == pytest.approx((0.4 + 0.7 + 0.2 + 0.1) / 4)
  tied = two_classes([0.7] * 4, [1, 1, 0, 1])
  for order in ([0, 1, 2, 3], [2, 3, 0, 1]):
    assert metrics.adaptive_ece(tied[0], tied[1][order], bins=2) == pytest.approx(0.05)


@QUICK
@given(st.integers(0, 10**6), st.integers(1, 60), st.integers(2, 8), st.floats(0.1, 20))
def test_calibration_properties(seed, batch, classes, scale):
  log_probs_BK, labels_B = predictions(seed, batch, classes, scale=scale)
  order_B = np.random.default_rng(seed).permutation(batch)
  for metric in metrics.ece, metrics.adaptive_ece, metrics.brier, metrics.nll:
    value = metric(log_probs_BK, labels_B)
    assert 0 <= value and (value <= 1 or metric not in (metrics.ece, metrics.adaptive_ece))
    assert metric(log_probs_BK[order_B], labels_B[order_B]) == pytest.approx(value, abs=1e-12)
  gap = abs(np.exp(log_probs_BK).max(1).mean() - metrics.accuracy(log_probs_BK, labels_B))
  assert metrics.ece(log_probs_BK, labels_B, bins=1) == pytest.approx(gap, abs=1e-12)
  assert metrics.ece(log_probs_BK, labels_B) >= gap - 1e-12


@pytest.mark.parametrize('scale', [0.02, 0.3, 1.0, 4.0, 30.0])
def test_temperature_is_the_optimum(scale):
  log_probs_BK, labels_B = predictions(2, 300, scale=scale)
  temperature = metrics.fit_temperature(log_probs_BK, labels_B)

  def nll_at(log_t):
    return metrics.nll(metrics.apply_temperature(log_probs_BK, math.exp(log_t)), labels_B)

  best = optimize.minimize_scalar(
    nll_at, bounds=(-4.6, 4.6), method='bounded', options={'xatol': 1e-9}
  )
  np.testing.assert_allclose(temperature, math.exp(best.x), rtol=1e-4)
  assert nll_at(math.log(temperature)) <= best.fun + 1e-12


def test_the_fitted_temperature_inverts_an_applied_one():
  log_probs_BK, labels_B = predictions(3, 500)
  temperature = metrics.fit_temperature(log_probs_BK, labels_B)
  for factor in (0.2, 3.0):
    hotter_BK = metrics.apply_temperature(log_probs_BK, factor)
    again = metrics.fit_temperature(hotter_BK, labels_B)
    np.testing.assert_allclose(again * factor, temperature, rtol=1e-6)
  calibrated_BK = metrics.apply_temperature(log_probs_BK, temperature)
  assert metrics.fit_temperature(calibrated_BK, labels_B) == pytest.approx(1, abs=1e-6)


@QUICK
@given(st.integers(0, 10**6), st.floats(0.3, 3))
def test_temperature_is_one_on_calibrated_data(seed, scale):
  """Labels have exactly the predicted proportions: the NLL is the entropy, its minimum."""
  rng = np.random.default_rng(seed)
  count_K = rng.integers(1, 9, 4)
  labels_B = np.repeat(np.arange(4), count_K)
  log_probs_BK = np.log(np.tile(count_K / count_K.sum(), (len(labels_B), 1)))
  if count_K.min() < count_K.max():
    assert metrics.fit_temperature(log_probs_BK, labels_B) == pytest.approx(1, abs=1e-6)
    hot_BK = metrics.apply_temperature(log_probs_BK, scale)
    assert metrics.fit_temperature(hot_BK, labels_B) == pytest.approx(1 / scale, rel=1e-6)


def test_temperature_at_its_bounds():
  low, high = calibration.TEMPERATURES
  assert metrics.fit_temperature(*two_classes([0.6, 0.7, 0.9], [1, 1, 1])) == low
  assert metrics.fit_temperature(*two_classes([0.6], [1])) == low
  assert metrics.fit_temperature(*two_classes([0.6, 0.7, 0.9], [0, 0, 0])) == high
  assert metrics.fit_temperature(*two_classes([1.0, 0.7], [0, 1])) == high  # an infinite NLL
  assert metrics.fit_temperature(*two_classes([0.5, 0.5], [0, 1])) == 1.0
  assert metrics.fit_temperature(*two_classes([1.0, 1.0], [1, 1])) == 1.0
  sure, labels = predictions(4, 50, scale=500.0, signal=20.0)
  assert metrics.accuracy(sure, labels) == 1 and metrics.fit_temperature(sure, labels) == low
  with pytest.raises(ValueError, match='positive'):
    metrics.apply_temperature(sure, 0.0)


def test_apply_temperature_by_hand():
  p_BK = np.array([[0.7, 0.2, 0.1], [1.0, 0.0, 0.0]])
  with np.errstate(divide='ignore'):
    soft_BK = np.exp(metrics.apply_temperature(np.log(p_BK), 2.0))
  np.testing.assert_allclose(soft_BK, p_BK**0.5 / (p_BK**0.5).sum(-1, keepdims=True))
