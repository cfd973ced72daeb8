"""Pictures and tables of regression show their numbers."""

import dataclasses

import jax
import numpy as np
import pytest
from reports import model, row_of

from ensdistill import data, metrics, predictive
from ensdistill.metrics import summary
from ensdistill.report import columns, figures, probes, tables
from ensdistill.report.figures import regression

SIZE = 120


@pytest.fixture(scope='module')
def toy():
  return data.load('toy1d', size=SIZE)


def mixture(rng, size, members, std=1.0):
  mean_BMD = rng.normal(0, 0.5, (size, members, 1))
  return predictive.GaussianMixture(mean_BMD, np.full((size, members, 1), 2 * np.log(std)))


@pytest.fixture(scope='module')
def drawn_from(toy):
  """A context of made-up predictions; the student's are too narrow."""
  rng = np.random.default_rng(0)
  y = rng.normal(0, 1, (SIZE, 1)).astype(np.float32)
  toy = dataclasses.replace(toy, test=data.Split(toy.test.x, y))
  repeats = {
    ('member', 1): [mixture(rng, SIZE, 1) for _ in range(3)],
    ('ensemble', 3): [mixture(rng, SIZE, 3)],
    ('student', 3): [mixture(rng, SIZE, 3, 0.3)],
  }
  models = [model(*key, [{'test': p} for p in found]) for key, found in repeats.items()]
  rows = [
    row_of(one, [summary.regression(r['test'], y) for r in one.repeats], {}) for one in models
  ]
  x = probes.grid(toy.train.x, 30)
  line = probes.Line(x, {'ensemble-3': mixture(rng, 30, 3), 'student': mixture(rng, 30, 3, 0.3)})
  return figures.Context(toy, rows, models, probes.Probes(line=line))


def test_bands_are_two_deviations_of_either_uncertainty(drawn_from):
  figure = figures.draw('bands', drawn_from)
  for ax, p in zip(figure.axes, drawn_from.probes.line.predictives.values(), strict=True):
    for band, variance in zip(ax.collections, (p.data(), p.knowledge()), strict=True):
      x, y = band.get_paths()[0].vertices.T
      half = [np.ptp(y[np.isclose(x, at)]) / 2 for at in drawn_from.probes.line.x[:, 0]]
      np.testing.assert_allclose(half, 2 * np.sqrt(variance), rtol=1e-4)
    mean, points = ax.lines
    np.testing.assert_allclose(mean.get_ydata(), p.mean()[:, 0], rtol=1e-5)
    assert len(points.get_xdata()) == len(drawn_from.dataset.train.x)
  low, high = figure.axes[0].get_ylim()
  assert low < drawn_from.dataset.train.y.min() and drawn_from.dataset.train.y.max() < high
  assert figures.draw('bands', figures.Context(drawn_from.dataset, [], [])) is None


def test_bands_that_explode_do_not_hide_the_points(drawn_from):
  line = drawn_from.probes.line
  wide = jax.tree.map(lambda a: 1e6 * a, line.predictives['student'])
  exploded = line._replace(predictives=line.predictives | {'student': wide})
  models = drawn_from.models.values()
  context = figures.Context(drawn_from.dataset, [], models, probes.Probes(line=exploded))
  low, high = figures.draw('bands', context).axes[1].get_ylim()
  assert high - low < 3.1 * np.ptp(drawn_from.dataset.train.y)


def test_pit_is_a_density_and_says_when_it_is_not_flat(drawn_from):
  figure = figures.draw('pit', drawn_from)
  for ax, name in zip(figure.axes, ('member', 'ensemble-3', 'student')):
    density = ax.patches[-1].get_data()
    np.testing.assert_allclose((density.values * np.diff(density.edges)).sum(), 1)
    assert f'{drawn_from.metric(name, "calibration_error"):.3f}' in ax.get_title()
  ends = figure.axes[2].patches[-1].get_data().values
  assert len(ends) == 6 and ends[0] > 1.5 and ends[-1] > 1.5  # too narrow: a valley
  band = figure.axes[2].patches[0]
  assert band.get_y() < 1 < band.get_y() + band.get_height() < ends[-1]


def test_coverage_is_the_share_within_central_intervals(drawn_from):
  left, right = figures.draw('coverage', drawn_from).axes
  y = drawn_from.dataset.test.y
  for line, name in zip(left.lines[1:], ('member', 'ensemble-3', 'student'), strict=True):
    shares = [
      metrics.coverage(p, y, regression.LEVELS) for p in drawn_from.distributions(name, 'test')
    ]
    expected = 100 * (np.mean(shares, 0) - regression.LEVELS)
    np.testing.assert_allclose(line.get_ydata(), expected, atol=1e-9)
  assert left.lines[-1].get_ydata()[-1] < -15 < left.lines[2].get_ydata()[-1]
  widths = [
    np.mean([metrics.sharpness(p, 0.9) for p in drawn_from.distributions(name, 'test')])
    for name in ('member', 'student')
  ]
  np.testing.assert_allclose(right.lines[2].get_ydata()[1], widths[1] / widths[0], rtol=1e-6)


def test_the_table_writes_errors_in_two_digits_of_the_targets_unit(drawn_from):
  rows = list(drawn_from.rows.values())
  found = columns.table_columns(rows)
  keys = [column.key for column in found]
  assert keys[:4] == ['rmse', 'nll', 'crps', 'coverage_90'] and 'sharpness_90' in keys
  titles = {column.key: column.title for column in found}
  assert titles['entropy_knowledge'] == 'knowledge (nats)' and 'entropy_total' not in titles
  member = rows[0] | {'metrics': {'rmse': 1234.5678}, 'se': {'rmse': 0.0123456}}
  assert tables.cell(member, found[0]) == '1235 ± 0.012'
