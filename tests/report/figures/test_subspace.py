"""The picture of the networks between the members of a batch ensemble and their average."""

import numpy as np
import pytest
from reports import context

from ensdistill.report import figures, probes, subspace


def probe(members=4, corners=3, plane=True, quality='acc'):
  """Return a made-up probe whose NLL is the squared distance from the average."""
  t = np.linspace(-0.5, 1.5, subspace.POINTS)
  heights = 0.1 + np.arange(1.0, members + 1)[:, None] * t**2
  across = up = np.linspace(-3, 3, 9)
  points = np.array([[-1.0, -0.5], [1.0, -0.5], [0.0, 1.0]])[:corners]
  nll = 0.1 + across[None] ** 2 + up[:, None] ** 2
  found = subspace.Slice(across, up, nll, points)
  return subspace.Subspace(t, {'nll': heights, quality: 1 - heights / 10}, found if plane else None)


def drawn(dataset, compared, found):
  return figures.draw('subspace', context(dataset, compared, probes.Probes(subspace=found)))


@pytest.mark.parametrize('corners', [2, 3])
def test_lines_meet_in_the_average_and_the_plane_marks_the_members(dataset, compared, corners):
  found = probe(corners=corners)
  nll, accuracy, plane, bar = drawn(dataset, compared, found).axes
  assert bar.get_label() == '<colorbar>' and accuracy.get_ylabel() == 'accuracy, %'
  curves = [line for line in nll.lines if len(line.get_xdata()) == subspace.POINTS]
  np.testing.assert_allclose([line.get_ydata() for line in curves], found.lines['nll'])
  marks = [line.get_xydata()[0] for line in nll.lines if len(line.get_xdata()) == 1]
  expected = [*([1, 0.1 + m] for m in (1, 2, 3, 4)), [0, 0.1]]
  np.testing.assert_allclose(marks, expected, atol=1e-12)
  np.testing.assert_allclose(
    [line.get_xydata()[0] for line in plane.lines], [*found.plane.members, [0, 0]]
  )
  assert [text.get_text() for text in plane.texts] == ['1', '2', '3'][:corners]
  assert (plane.get_ylabel() == 'in a random direction') == (corners == 2)


def test_regression_shows_rmse_and_a_line_has_no_plane(dataset, compared):
  axes = drawn(dataset, compared, probe(plane=False, quality='rmse')).axes
  assert [ax.get_ylabel() for ax in axes] == ['NLL', 'RMSE']
  assert drawn(dataset, compared, None) is None


def test_infinite_and_constant_losses_are_drawn(dataset, compared):
  found = probe()
  nll = found.plane.nll.copy()
  nll[0, 0], nll[-1, -1] = np.inf, np.nan
  for values in (nll, np.ones_like(nll)):
    shown = found._replace(plane=found.plane._replace(nll=values))
    assert len(drawn(dataset, compared, shown).axes[2].lines) == 4
