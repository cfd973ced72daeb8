"""Classwise and smooth calibration errors, against slow loops and dense sums of kernels."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special

from ensdistill import metrics
from ensdistill.metrics import arrays, calibration

QUICK = settings(max_examples=25, deadline=None, derandomize=True)


def predictions(seed, batch=100, classes=5, scale=1.5):
  rng = np.random.default_rng(seed)
  labels_B = rng.integers(0, classes, batch)
  z_BK = rng.normal(0, 1, (batch, classes))
  z_BK[np.arange(batch), labels_B] += 1
  return special.log_softmax(scale * z_BK, -1), labels_B


def certain(classes, labels, of):
  """Return predictions of probability 1 for these classes."""
  with np.errstate(divide='ignore'):
    return np.log(np.eye(of)[classes]), np.array(labels)


def slow_classwise(log_probs_BK, labels_B, bins):
  p_BK, errors = np.exp(log_probs_BK), []
  for k in range(p_BK.shape[1]):
    error = 0.0
    for b in range(bins):
      low, high = b / bins, (b + 1) / bins
      inside = [i for i, p in enumerate(p_BK[:, k]) if low < p <= high or (b == 0 and p == 0)]
      if inside:
        share = np.mean([labels_B[i] == k for i in inside])
        error += len(inside) / len(p_BK) * abs(share - np.mean(p_BK[inside, k]))
    errors.append(error)
  return np.mean(errors)


@QUICK
@given(
  st.integers(0, 10**6), st.integers(1, 60), st.integers(2, 8), st.sampled_from([1, 2, 15, 100]),
  st.floats(0.1, 40),
)  # fmt: skip
def test_classwise_ece_equals_a_slow_loop(seed, batch, classes, bins, scale):
  """Also of one example, and with classes that have no examples."""
  inputs = predictions(seed, batch, classes, scale)
  expected = slow_classwise(*inputs, bins)
  assert metrics.classwise_ece(*inputs, bins) == pytest.approx(expected, abs=1e-9)


def test_classwise_ece_by_hand(monkeypatch):
  assert metrics.classwise_ece(*certain([0, 1, 2], [0, 1, 2], 4)) == 0
  assert metrics.classwise_ece(*certain([0, 1, 2], [1, 2, 0], 3)) == pytest.approx(2 / 3)
  # Each class is predicted with .5 and is the label of half of the examples.
  assert metrics.classwise_ece(np.log(np.full((4, 2), 0.5)), np.array([0, 0, 1, 1])) == 0
  # A class without examples has the error of its mean probability.
  one = np.log([[0.7, 0.2, 0.1]])
  assert metrics.classwise_ece(one, np.array([0])) == pytest.approx((0.3 + 0.2 + 0.1) / 3)
  inputs = predictions(4)
  whole = metrics.classwise_ece(*inputs)
  monkeypatch.setattr(arrays, 'BLOCK', 35)
  assert metrics.classwise_ece(*inputs) == pytest.approx(whole, abs=1e-12)
  with pytest.raises(ValueError, match='bins=0'):
    metrics.classwise_ece(*inputs, bins=0)


@pytest.mark.parametrize('dtype', [np.float32, np.float64])
def test_a_probability_on_an_edge_is_in_the_lower_bin_of_its_class(dtype):
  """Of five bins, .6 is in the third and .4 in the second."""
  p_B = np.array([0.6, 0.5, 0.55, 0.55])
  log_probs_BK = np.log(np.stack([p_B, 1 - p_B], -1)).astype(dtype)
  labels_B = np.array([0, 0, 1, 1])
  first = abs(p_B.sum() - 2) / 4
  second = (0.4 + abs(0.5 + 0.45 + 0.45 - 2)) / 4
  expected = (first + second) / 2
  assert metrics.classwise_ece(log_probs_BK, labels_B, 5) == pytest.approx(expected, abs=1e-6)


def dense_smooth_error(f_B, c_B, sigma, cells=20_000):
  """Return smECE_sigma from sums of kernels at many points, in the middle of equal cells."""
  t = (np.arange(cells) + 0.5) / cells
  smooth = np.zeros(cells)
  for f, c in zip(f_B, c_B):
    images = np.arange(-4, 5)[:, None] * 2 + np.array([f, -f])  # reflected at 0 and at 1
    for image in images.ravel():
      if -10 * sigma < image < 1 + 10 * sigma:
        smooth += (c - f) * np.exp(-(((t - image) / sigma) ** 2) / 2)
  return np.abs(smooth).mean() / (sigma * math.sqrt(2 * math.pi) * len(f_B))


def dense_smooth_ece(f_B, c_B):
  low, high = 0.0, 1.0
  for _ in range(22):
    sigma = (low + high) / 2
    low, high = (sigma, high) if dense_smooth_error(f_B, c_B, sigma) > sigma else (low, sigma)
  return (low + high) / 2


@pytest.mark.parametrize(
  'seed, batch, classes, scale',
  [(0, 40, 3, 1.5), (1, 1, 4, 1.0), (2, 30, 5, 0.1), (3, 40, 2, 6.0), (4, 60, 3, 2.0)],
)
def test_smooth_ece_equals_a_dense_sum(seed, batch, classes, scale):
  log_probs_BK, labels_B = predictions(seed, batch, classes, scale)
  expected = dense_smooth_ece(np.exp(log_probs_BK.max(-1)), log_probs_BK.argmax(-1) == labels_B)
  assert metrics.smooth_ece(log_probs_BK, labels_B) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize('spread', [0.02, 0.004])
def test_small_smooth_errors_equal_a_dense_sum(spread):
  """Calibrated pairs of confidences: the residuals cancel but for a narrow kernel."""
  f_B = np.array([0.5 - spread, 0.5 + spread, 0.5, 0.5 + spread / 2, 1 - spread, 1.0])
  c_B = np.array([1, 0, 1, 0, 1, 1])
  low = abs((c_B - f_B).mean())
  found = calibration.smooth_error(np.repeat(f_B, 2), np.repeat(c_B, 2))
  assert low < found == pytest.approx(dense_smooth_ece(f_B, c_B), abs=1e-6)


def test_a_finer_grid_is_used_for_a_small_smooth_error():
  """Nearly calibrated: the error of the pair vanishes once the kernel is wider than its gap."""
  gap = 1e-4
  f_B = np.array([0.5, 0.5 + gap])
  c_B = np.array([1, 0])
  residual_B, found = c_B - f_B, calibration.smooth_error(f_B, c_B)
  wide = 8 * found
  t = np.linspace(0.5 - wide, 0.5 + wide, 200_001)
  kernels = np.exp(-(((t[:, None] - f_B) / found) ** 2) / 2) / (found * math.sqrt(2 * math.pi))
  exact = np.trapezoid(np.abs(kernels @ residual_B) / 2, t)
  assert found < 0.01 and found == pytest.approx(exact, abs=1e-6)


def test_smooth_ece_of_degenerate_predictions():
  assert metrics.smooth_ece(*certain([0, 1, 2], [0, 1, 2], 4)) == 0
  assert metrics.smooth_ece(*certain([0, 1, 2], [1, 2, 0], 3)) == 1
  assert metrics.smooth_ece(np.log([[0.7, 0.3]]), np.array([0])) == pytest.approx(0.3)
  assert metrics.smooth_ece(np.log([[0.7, 0.3]]), np.array([1])) == pytest.approx(0.7)
  # At one confidence, residuals cancel whatever the kernel is.
  quarter = np.log([[0.75, 0.25]] * 4), np.array([0, 1, 0, 0])
  assert metrics.smooth_ece(*quarter) == pytest.approx(0, abs=1e-8)
  # Residuals of one sign: the mean of them.
  sure = 1 - np.array([1e-9, 1e-7, 1e-3])
  found = calibration.smooth_error(sure, np.ones(3, bool))
  assert found == pytest.approx((1 - sure).mean(), rel=1e-6)


@QUICK
@given(st.integers(0, 10**6), st.integers(1, 60), st.floats(0.1, 20))
def test_calibration_errors_are_bounded_and_ignore_the_order(seed, batch, scale):
  log_probs_BK, labels_B = predictions(seed, batch, scale=scale)
  order_B = np.random.default_rng(seed).permutation(batch)
  confidence_B = np.exp(log_probs_BK.max(-1))
  residual_B = (log_probs_BK.argmax(-1) == labels_B) - confidence_B
  smooth = metrics.smooth_ece(log_probs_BK, labels_B)
  assert abs(residual_B.mean()) - 1e-9 <= smooth <= abs(residual_B).mean() + 1e-9
  for metric in metrics.smooth_ece, metrics.classwise_ece:
    again = metric(log_probs_BK[order_B], labels_B[order_B])
    assert again == pytest.approx(metric(log_probs_BK, labels_B), abs=2e-9)
