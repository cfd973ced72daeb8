"""Statistics over teachers and seeds, against closed forms, simulation and SciPy."""

import math

import numpy as np
import pytest
from scipy import stats

from ensdistill.sweep import statistics


def values(table):
  return {(t, s): v for t, row in enumerate(table) for s, v in enumerate(row)}


def test_the_spread_over_teachers_decides_the_error():
  found = statistics.nested(values([[1.0, 3.0], [4.0, 6.0], [7.0, 9.0]]))
  assert found == statistics.Estimate(5.0, pytest.approx(3 / math.sqrt(3)), 3, 6)


def test_one_teacher_has_the_spread_of_its_seeds_and_one_run_has_none():
  one = statistics.nested(values([[1.0, 3.0]]))
  assert one == statistics.Estimate(2.0, pytest.approx(1.0), 1, 2)
  assert statistics.nested({(0, 0): 2.5}) == statistics.Estimate(2.5, None, 1, 1)
  assert statistics.nested({}) is None and statistics.nested({(0, 0): float('nan')}) is None


def test_teachers_weigh_alike_in_an_unfinished_sweep():
  found = statistics.nested({(0, 0): 1.0, (0, 1): 3.0, (1, 0): 4.0})
  assert (found.mean, found.teachers, found.runs) == (3.0, 2, 3)


def test_the_error_is_right_where_teachers_differ():
  """The standard deviation of the mean over many sweeps: sqrt(2^2 / 4 + 1^2 / 8)."""
  rng = np.random.default_rng(0)
  tables = rng.normal(0, 2, (4000, 4, 1)) + rng.normal(0, 1, (4000, 4, 2))
  errors = [statistics.nested(values(table)).error ** 2 for table in tables]
  assert tables.mean((1, 2)).std() == pytest.approx(math.sqrt(9 / 8), rel=0.03)
  assert math.sqrt(np.mean(errors)) == pytest.approx(math.sqrt(9 / 8), rel=0.03)


def test_pairs_cancel_what_the_teacher_adds():
  base = values([[0.0, 1.0], [100.0, 101.0], [200.0, 201.0]])
  ours = {key: value + 1.0 for key, value in base.items()} | {(9, 9): 5.0}
  found = statistics.paired(ours, base)
  assert (found.mean, found.error, found.runs) == (1.0, pytest.approx(0, abs=1e-12), 6)
  assert statistics.paired(ours, {}) is None


def test_gap_closed_is_the_ratio_of_means():
  member = {(0, 0): 1.0, (1, 0): 1.2, (2, 0): 1.1}
  ensemble = {(0, 0): 0.5, (1, 0): 0.6, (2, 0): 0.7}
  student = values([[0.75], [0.9], [0.9]])
  closing, gap = np.array([0.25, 0.3, 0.2]), np.array([0.5, 0.6, 0.4])
  found = statistics.gap_closed(member, ensemble, student)
  assert found.mean == pytest.approx(0.5) and found.error == pytest.approx(0, abs=1e-12)
  student[2, 0] = 1.1
  closing[2] = 0.0
  found = statistics.gap_closed(member, ensemble, student)
  share = closing.sum() / gap.sum()
  residual = (closing - share * gap).std(ddof=1)
  assert found.mean == pytest.approx(share)
  assert found.error == pytest.approx(residual / math.sqrt(3) / gap.mean())


def test_there_is_no_gap_closed_where_there_is_no_gap():
  member = {(0, 0): 1.0, (1, 0): 1.0}
  assert statistics.gap_closed(member, {(0, 0): 0.9, (1, 0): 1.1}, member) is None
  assert statistics.gap_closed(member, member, member) is None
  one = statistics.gap_closed({(0, 0): 1.0}, {(0, 0): 0.0}, values([[0.2, 0.4]]))
  assert (one.mean, one.error) == (pytest.approx(0.7), pytest.approx(0.1))


# Demsar (2006), table 5: the quantiles of Nemenyi's test at 0.05.
NEMENYI = {2: 1.960, 3: 2.343, 4: 2.569, 5: 2.728, 10: 3.164}


@pytest.mark.parametrize('models', NEMENYI)
def test_critical_differences_are_those_of_the_table(models):
  table = np.random.default_rng(0).normal(size=(14, models))
  found = statistics.ranks(table, higher_is_better=False)
  expected = NEMENYI[models] * math.sqrt(models * (models + 1) / (6 * 14))
  assert found.critical_difference == pytest.approx(expected, rel=2e-3)


@pytest.mark.parametrize('ties', (False, True))
def test_the_friedman_test_is_scipys_with_the_correction_of_iman_and_davenport(ties):
  table = np.random.default_rng(1).normal(size=(9, 4)) + np.arange(4) / 2
  table = table.round() if ties else table
  found = statistics.ranks(table, higher_is_better=False)
  assert np.allclose(found.ranks, stats.rankdata(table, axis=1).mean(0))
  chi = stats.friedmanchisquare(*table.T).statistic
  f_value = 8 * chi / (9 * 3 - chi)
  assert found.p_value == pytest.approx(stats.f.sf(f_value, 3, 24))


def test_ranks_of_models_that_always_rank_alike():
  table = np.arange(12.0).reshape(4, 3)
  found = statistics.ranks(table, higher_is_better=True)
  assert found.ranks == [3, 2, 1] and found.p_value == 0 and found.blocks == 4
  assert statistics.ranks(np.ones((3, 3)), higher_is_better=True).ranks == [2, 2, 2]
  assert statistics.ranks(table[:1], higher_is_better=True) is None
  assert statistics.ranks([[1.0], [2.0]], higher_is_better=True) is None
