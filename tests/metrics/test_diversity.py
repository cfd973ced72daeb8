"""Diversity against double loops, DEE against published numbers, agreement."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special

from ensdistill import metrics

QUICK = settings(max_examples=25, deadline=None, derandomize=True)


def members(seed, batch=20, size=4, classes=6, scale=2.0):
  z_BMK = np.random.default_rng(seed).normal(0, scale, (batch, size, classes))
  return special.log_softmax(z_BMK, -1)


def slow_pairs(log_probs_BMK, value):
  size = log_probs_BMK.shape[1]
  pairs = [(i, j) for i in range(size) for j in range(size) if i != j]
  return np.mean([value(log_probs_BMK[:, i], log_probs_BMK[:, j]) for i, j in pairs])


@QUICK
@given(st.integers(0, 10**6), st.integers(2, 6), st.floats(0.01, 20))
def test_diversity_equals_a_double_loop(seed, size, scale):
  log_probs_BMK = members(seed, size=size, scale=scale)
  kl = slow_pairs(log_probs_BMK, lambda p, q: (np.exp(p) * (p - q)).sum(-1).mean())
  assert metrics.pairwise_kl(log_probs_BMK) == pytest.approx(kl, rel=1e-9)
  assert metrics.epkl(log_probs_BMK) == pytest.approx(kl * (size - 1) / size, rel=1e-9)
  differ = slow_pairs(log_probs_BMK, lambda p, q: (p.argmax(-1) != q.argmax(-1)).mean())
  assert metrics.disagreement(log_probs_BMK) == pytest.approx(differ, abs=1e-12)
  order_M = np.random.default_rng(seed).permutation(size)
  for metric in metrics.pairwise_kl, metrics.disagreement, metrics.epkl:
    assert metric(log_probs_BMK[::-1, order_M]) == pytest.approx(metric(log_probs_BMK), rel=1e-9)


def test_diversity_of_one_member_of_equal_and_of_certain_members():
  one = members(0, size=1)
  twins = np.repeat(one, 3, 1)
  for metric in metrics.pairwise_kl, metrics.disagreement, metrics.epkl:
    assert metric(one) == 0
    assert metric(twins) == pytest.approx(0, abs=1e-15)
  with np.errstate(divide='ignore'):
    certain = np.log([[[1.0, 0, 0], [0, 1.0, 0]]])
  assert metrics.pairwise_kl(certain) == np.inf and metrics.disagreement(certain) == 1
  assert metrics.pairwise_kl(certain[:, [0, 0]]) == 0


def test_dee_equals_the_published_table():
  """Numbers: Diversity Matters, CIFAR-100 WRN-28-10, cNLL of DE-1..4, DEE of four students."""
  ensemble = [0.789, 0.708, 0.673, 0.655]
  for cnll, dee in ((0.750, 1.48), (0.760, 1.36), (0.682, 2.74), (0.665, 3.44)):
    assert metrics.dee(ensemble, cnll) == pytest.approx(dee, abs=0.006)


def test_dee_is_clamped_and_takes_the_smallest_number():
  ensemble = [0.8, 0.7, 0.6]
  assert [metrics.dee(ensemble, c) for c in (0.9, 0.8, 0.7, 0.6, 0.5)] == [1, 1, 2, 3, 3]
  assert metrics.dee([0.8], 0.5) == 1
  assert metrics.dee([0.8, 0.6, 0.7, 0.5], 0.65) == pytest.approx(1.75)  # the first crossing
  assert metrics.dee([0.8, 0.6, 0.7, 0.5], 0.55) == pytest.approx(3.75)
  assert metrics.dee([0.8, 0.8, 0.6], 0.7) == pytest.approx(2.5)
  assert math.isnan(metrics.dee(ensemble, float('nan')))
  with pytest.raises(ValueError, match='ensemble_cnll'):
    metrics.dee([], 0.5)


def test_agreement():
  log_probs_BMK, other_BMK = members(1), members(2)
  p_BK, q_BK = log_probs_BMK[:, 0], other_BMK[:, 0]
  knowledge_B = np.arange(20.0)
  kl, rank = metrics.agreement(p_BK, q_BK, -knowledge_B, knowledge_B)
  assert kl == pytest.approx((np.exp(q_BK) * (q_BK - p_BK)).sum(-1).mean())
  assert rank == pytest.approx(-1)
  assert metrics.agreement(q_BK, q_BK, knowledge_B, knowledge_B) == (0, pytest.approx(1))
  with np.errstate(divide='ignore'):
    certain = np.log([[1.0, 0.0], [0.5, 0.5]])
  assert metrics.agreement(certain[:1], certain[1:], [1.0], [1.0])[0] == np.inf
  assert metrics.agreement(certain[1:], certain[:1], [1.0], [1.0])[0] == pytest.approx(np.log(2))
