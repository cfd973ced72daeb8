"""Errors of differences are those of the same examples, wherever these are known."""

import math

import numpy as np
import pytest
from reports import row

from ensdistill.report import noise, verdict


def rows():
  """Return a member, an ensemble and two students with errors of the test examples."""
  member, ensemble = row('member', nll=0.3), row('ensemble-4', nll=0.2)
  student, other = row('student', nll=0.25), row('student', nll=0.26)
  for found in (member, ensemble, student, other):
    found['test_se'] = {'nll': 0.04}
  ensemble['paired'] = {'member': {'nll': 0.01}}
  student['paired'] = {'member': {'nll': 0.02}, 'ensemble-4': {'nll': 0.003}}
  other['paired'] = {'member': {'nll': 0.02}, 'ensemble-4': {'nll': 0.004}}
  return member, ensemble, student, other


def test_rows_of_one_run_have_the_error_of_their_difference():
  member, ensemble, student, _ = rows()
  here = {'same_run': True, 'same_teacher': True}
  assert noise.of_difference(student, ensemble, 'nll', **here) == 0.003
  assert noise.of_difference(member, student, 'nll', **here) == 0.02  # either way round
  several = student | {'seeds': 3, 'se': {'nll': 0.004}}
  assert noise.of_difference(several, ensemble, 'nll', **here) == pytest.approx(0.005)


def test_students_of_one_teacher_are_compared_by_way_of_it():
  _, ensemble, student, other = rows()
  near = {'same_run': False, 'same_teacher': True}
  assert noise.of_difference(student, other, 'nll', **near) == pytest.approx(0.005)
  assert noise.of_difference(other, ensemble, 'nll', **near) == 0.004
  far = {'same_run': False, 'same_teacher': False}
  assert noise.of_difference(student, other, 'nll', **far) == pytest.approx(0.04 * math.sqrt(2))


def test_unknown_noise_is_none():
  ours, theirs = row('student', nll=0.2), row('student', nll=0.3)
  known = {'same_run': False, 'same_teacher': True}
  assert noise.of_difference(ours, theirs, 'nll', **known) is None
  assert noise.of_row(ours, 'nll') is None


def test_the_error_of_the_gap_is_that_of_a_ratio_of_paired_means():
  """Against the spread of the ratio over many test sets."""
  rng = np.random.default_rng(0)
  mean, chol = np.array([1.0, 0.6, 0.75]), rng.normal(0, 0.5, (3, 3))
  size = 4000

  def sample(count):
    return mean + rng.normal(size=(count, 3)) @ chol.T

  def ratio(x):
    m, e, s = x.mean(0)
    return (m - s) / (m - e)

  expected = np.std([ratio(sample(size)) for _ in range(400)])
  x = sample(size)
  pairs = {(a, b): (x[:, a] - x[:, b]).std() / size**0.5 for a in range(3) for b in range(a)}
  names = 'member', 'ensemble-4', 'student'
  found = [row(name, nll=float(v)) for name, v in zip(names, x.mean(0))]
  found[1]['paired'] = {'member': {'nll': pairs[1, 0]}}
  found[2]['paired'] = {'member': {'nll': pairs[2, 0]}, 'ensemble-4': {'nll': pairs[2, 1]}}
  assert noise.of_gap(*found, 'nll') == pytest.approx(expected, rel=0.15)
  found[2]['metrics']['gap_closed/nll'] = ratio(x)
  (gap,) = verdict.gaps(found, found[2]).closed
  assert gap.error == pytest.approx(noise.of_gap(*found, 'nll'))
