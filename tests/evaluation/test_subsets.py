"""Subsets are all of them, or a sample that is the same every time."""

import collections
import math

import numpy as np
import pytest

from ensdistill import predictive
from ensdistill.evaluation import subsets


@pytest.mark.parametrize('members, size', [(4, 2), (5, 3), (8, 2), (8, 4), (20, 7), (100, 50)])
def test_subsets_are_distinct_and_all_of_them_or_a_sample(members, size):
  found = subsets.of_size(members, size)
  assert len(set(found)) == len(found) == min(math.comb(members, size), subsets.most(members))
  assert all(len(set(s)) == size and list(s) == sorted(s) for s in found)
  assert all(0 <= m < members for s in found for m in s)
  assert found == subsets.of_size(members, size)
  assert len(found) <= 30


def test_a_sample_favours_no_member():
  counts = collections.Counter(
    m for size in range(2, 12) for s in subsets.of_size(12, size)[:5] for m in s
  )
  assert len(counts) == 12 and max(counts.values()) < 2 * min(counts.values())


def test_a_part_has_the_chosen_members():
  log_probs_BMK = np.log(np.random.default_rng(0).dirichlet(np.ones(3), (5, 4)))
  found = subsets.part(predictive.Mixture(log_probs_BMK), (1, 3))
  np.testing.assert_array_equal(found.log_probs_BMK, log_probs_BMK[:, [1, 3]])
