"""The networks between members of a batch ensemble, and the plane through them."""

import dataclasses

import jax
import numpy as np
import pytest
import tiny

from ensdistill import data
from ensdistill.members import take
from ensdistill.report import subspace


def probed(dataset=None, **changes):
  """Return a plan of a batch ensemble, its student's variables off their start, and its probe."""
  config = tiny.config(student__kind='batch_ensemble', **changes)
  plan = tiny.plan(config, dataset or tiny.dataset())
  variables = tiny.moved(plan.student.student.module, plan.dataset.test.x[:1])
  return plan, variables, subspace.measured(plan, plan.student, variables)


def expected(plan, student, variables):
  """Return the scores of a network's members on the test set: [{name: score}, ...]."""
  outputs = jax.jit(student.module.apply)(variables, data.as_input(plan.dataset.test.x))
  family, units = plan.student.family, (plan.dataset.target_mean, plan.dataset.target_std)
  return [
    family.scores(
      plan.student.objective.predictive(family, outputs[:, m : m + 1]).in_units(*units),
      plan.dataset.test.y,
    )
    for m in range(outputs.shape[1])
  ]


RESNET = dict(network__name='resnet', network__depth=8, network__hidden=None)


@pytest.mark.parametrize('bias, network', [('shared', {}), ('member', RESNET)])
def test_lines_run_from_the_average_to_the_members_own_networks(bias, network):
  plan, variables, found = probed(student__bias=bias, **network)
  assert ('batch_stats' in variables) == bool(network)  # shared by all points
  start, end = (int(np.abs(found.t - t).argmin()) for t in (0, 1))
  assert (found.t[start], found.t[end]) == pytest.approx((0, 1), abs=1e-12)
  views = plan.student.student.views(variables)
  (averaged,) = expected(plan, *views['student-averaged'])
  members = expected(plan, *views['student'])
  for name in ('nll', 'acc'):
    assert found.lines[name].shape == (3, subspace.POINTS)
    np.testing.assert_allclose(found.lines[name][:, start], averaged[name], rtol=1e-4)
    np.testing.assert_allclose(found.lines[name][:, end], [m[name] for m in members], rtol=1e-4)


def test_the_plane_holds_members_and_average_where_they_are_drawn(monkeypatch):
  monkeypatch.setattr(subspace, 'SECONDS', -1.0)
  plan, variables, found = probed()
  plane = found.plane
  assert plane.nll.shape == (9, 9) and plane.members.shape == (3, 2)
  np.testing.assert_allclose(plane.members.sum(0), 0, atol=1e-5)
  flat_MF = subspace._factors(plan.student.student, variables)
  distances = np.linalg.norm(flat_MF[:, None] - flat_MF[None], axis=-1)
  drawn = np.linalg.norm(plane.members[:, None] - plane.members[None], axis=-1)
  np.testing.assert_allclose(drawn, distances, rtol=1e-6)
  assert plane.members[1, 0] > plane.members[0, 0] and plane.members[2, 1] > plane.members[0, 1]
  scored = subspace._scorer(plan, plan.student, variables)
  points = np.array([[0.0, 0.0], *plane.members, [plane.across[2], plane.up[5]]])
  nll = scored(subspace.barycentric(plane.members, points))['nll']
  start, end = (int(np.abs(found.t - t).argmin()) for t in (0, 1))
  lines = found.lines['nll']
  np.testing.assert_allclose(nll[:4], [lines[0, start], *lines[:, end]], rtol=1e-4)
  np.testing.assert_allclose(nll[4], plane.nll[5, 2], rtol=1e-4)


def test_two_members_have_a_random_third_point():
  plan, variables, found = probed(teacher__members=2)
  student = plan.student.student
  three = subspace._with_third(student, variables, seed=0)
  first, second, third = subspace._factors(student, three)
  np.testing.assert_array_equal(subspace._factors(student, variables), [first, second])
  out, way = third - (first + second) / 2, (second - first) / 2
  assert abs(out @ way) < 1e-5 * (way @ way)
  assert np.linalg.norm(out) == pytest.approx(np.linalg.norm(way), rel=1e-5)
  assert found.lines['nll'].shape == (2, subspace.POINTS) and found.plane.members.shape == (2, 2)
  np.testing.assert_allclose(found.plane.members.sum(0), 0, atol=1e-5)
  np.testing.assert_allclose(found.plane.members[:, 1], 0, atol=1e-5)


def test_equal_members_have_lines_and_no_plane():
  plan = tiny.plan(tiny.config(student__kind='batch_ensemble'), tiny.dataset())
  _, students = tiny.untrained(plan)
  found = subspace.measured(plan, plan.student, take(students.variables, 0))
  assert found.plane is None
  np.testing.assert_allclose(found.lines['nll'], found.lines['nll'][0, 0], rtol=1e-5)


@pytest.mark.parametrize('kind, members', [('single', 3), ('multi_head', 3), ('batch_ensemble', 1)])
def test_other_students_have_no_subspace(kind, members):
  plan = tiny.plan(tiny.config(student__kind=kind, teacher__members=members), tiny.dataset())
  _, students = tiny.untrained(plan)
  assert subspace.measured(plan, plan.student, take(students.variables, 0)) is None


def test_regression_is_scored_in_the_targets_units(monkeypatch):
  monkeypatch.setattr(subspace, 'EXAMPLES', 10**6)
  toy = data.load('toy1d', size=120)
  toy = dataclasses.replace(toy, target_mean=(100.0,), target_std=(10.0,))
  plan, variables, found = probed(dataset=toy, objective__name='members')
  end = int(np.abs(found.t - 1).argmin())
  members = expected(plan, *plan.student.student.views(variables)['student'])
  assert set(found.lines) == {'nll', 'rmse'} and found.lines['rmse'].min() > 20
  for name in found.lines:
    np.testing.assert_allclose(found.lines[name][:, end], [m[name] for m in members], rtol=1e-4)


def test_many_members_have_few_lines_and_a_plane_through_three():
  plan, variables, found = probed(teacher__members=8)
  assert found.lines['nll'].shape == (subspace.LINES, subspace.POINTS)
  flat_MF = subspace._factors(plan.student.student, variables)
  gaps = np.linalg.norm(flat_MF[:3] - flat_MF[[1, 2, 0]], axis=1)
  drawn = found.plane.members - found.plane.members[[1, 2, 0]]
  np.testing.assert_allclose(np.linalg.norm(drawn, axis=1), gaps, rtol=1e-6)
