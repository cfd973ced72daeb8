"""The share of the gap that a student closes."""

import math

import pytest

from ensdistill.evaluation import gaps


def test_gap_closed():
  assert gaps.closed(0.8, 0.9, 0.85) == pytest.approx(0.5)
  assert gaps.closed(1.2, 0.8, 0.8) == 1  # lower is better: the same formula
  assert gaps.closed(0.8, 0.9, 0.7) == pytest.approx(-1)
  assert gaps.closed(0.8, 0.9, 0.7, member_se=float('nan')) is None  # of unknown error
  assert gaps.closed(0.8, 0.9, 0.85, member_se=0.03, test_se=0.03) == pytest.approx(0.5)
  assert gaps.closed(0.8, 0.9, 0.85, member_se=0.04, test_se=0.04) is None
  assert gaps.closed(0.8, 0.8, 0.85) is None
  for bad in (None, math.nan, math.inf):
    assert gaps.closed(0.8, 0.9, bad) is None and gaps.closed(bad, 0.9, 0.8) is None
  assert gaps.closed_se(0.8, 0.9, 0.02) == pytest.approx(0.2)
