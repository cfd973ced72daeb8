"""Pictures and tables of regression show their numbers."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from ensdistill import compare, data, distillation, metrics, predictive, teacher
from ensdistill.config import build
from ensdistill.evaluation import sets
from ensdistill.metrics import summary
from ensdistill.report import columns, figures, probes, tables
from ensdistill.report.figures import regression
from ensdistill.training import step

SIZE = 120


@pytest.fixture(scope='module')
def toy():
  return data.load('toy1d', size=SIZE)


def mixture(rng, size, members, std=1.0):
  mean_BMD = rng.normal(0, 0.5, (size, members, 1))
  return predictive.GaussianMixture(mean_BMD, np.full((size, members, 1), 2 * np.log(std)))


@pytest.fixture(scope='module')
def drawn_from(toy):
  """A context of made-up predictions: the student's are half as wide as they should be."""
  rng = np.random.default_rng(0)
  y = rng.normal(0, 1, (SIZE, 1)).astype(np.float32)
  toy = dataclasses.replace(toy, test=data.Split(toy.test.x, y))
  repeats = {
    'member': [mixture(rng, SIZE, 1) for _ in range(3)],
    'ensemble-3': [mixture(rng, SIZE, 3)],
    'student': [mixture(rng, SIZE, 3, 0.3)],
  }
  rows = [
    compare.row(name, [summary.regression(p, y) for p in found], {})
    for name, found in repeats.items()
  ]
  models = [compare.Model(name, [{'test': p} for p in found]) for name, found in repeats.items()]
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
  context = figures.Context(drawn_from.dataset, [], [], probes.Probes(line=exploded))
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
    shares = [metrics.coverage(r['test'], y, regression.LEVELS) for r in drawn_from.models[name]]
    np.testing.assert_allclose(line.get_ydata(), 100 * np.mean(shares, 0))
  assert left.lines[-1].get_ydata()[-1] < 80 < left.lines[2].get_ydata()[-1]
  width = metrics.sharpness(drawn_from.models['student'][0]['test'], 0.9)
  np.testing.assert_allclose(right.lines[-1].get_ydata()[1], width, rtol=1e-6)


def test_probes_of_one_dimension_are_the_networks_in_the_targets_units(toy, monkeypatch):
  monkeypatch.setattr(probes, 'POINTS', 7)
  toy = dataclasses.replace(toy, target_mean=(100.0,), target_std=(10.0,))
  config = tiny.config(teacher__members=2, evaluate__batch_size=7)
  method = build.teacher_method(config, toy)
  keys = step.network_keys(jax.random.key(0), range(2))
  variables = step.start(*keys, method, jnp.zeros((1, 1))).variables
  ensemble = teacher.Teacher(method, variables, '', None, 'vmap')
  one = jax.tree.map(lambda leaf: leaf[:1], variables)
  seen = probes.collect(config, toy, ensemble, distillation.Distilled(method, one))
  assert seen.plane is None and seen.line.x.shape == (7, 1)
  outputs = ensemble.freeze(variables).outputs(seen.line.x)[..., 0]
  np.testing.assert_allclose(
    seen.line.predictives['ensemble-2'].mean()[:, 0], 100 + 10 * outputs.mean(1), rtol=1e-5
  )


def test_the_table_writes_errors_in_two_digits_of_the_targets_unit(drawn_from):
  rows = list(drawn_from.rows.values())
  found = columns.table_columns(rows)
  keys = [column.key for column in found]
  assert keys[:4] == ['rmse', 'nll', 'crps', 'coverage_90'] and 'sharpness_90' in keys
  titles = {column.key: column.title for column in found}
  assert titles['entropy_knowledge'] == 'knowledge (nats)' and 'entropy_total' not in titles
  member = rows[0] | {'metrics': {'rmse': 1234.5678}, 'se': {'rmse': 0.0123456}}
  assert tables.cell(member, found[0]) == '1235 ± 0.012'


def test_outside_moves_one_column_beyond_the_training_range():
  random = np.random.default_rng(0)
  x = random.normal(0, (1, 100, 1e-3), (50, 3)).astype(np.float32)
  x[:, 1] = 5.0  # constant
  split = data.Split(x[:40], np.zeros((40, 1), np.float32))
  table = dataclasses.replace(
    tiny.dataset(), family='gaussian', train=split, test=data.Split(x[40:], split.y[:10])
  )
  moved = sets.inputs(table, 'default', {})['ood/outside']
  changed = moved != table.test.x
  assert changed.sum(1).tolist() == [1] * 10 and not changed[:, 1].any() and changed[:, 2].any()
  low, high = split.x.min(0), split.x.max(0)
  beyond = (
    np.maximum(low - moved, moved - high)[changed]
    / np.broadcast_to(high - low, x[40:].shape)[changed]
  )
  assert (beyond > 0.49).all() and (beyond < 1.01).all()
  np.testing.assert_array_equal(moved, sets.inputs(table, 'outside', {})['ood/outside'])
  sets.check(table, ood='outside', shifts='none')
  with pytest.raises(ValueError, match="'outside' moves columns of a table, but tiny holds images"):
    sets.check(tiny.dataset(), ood='outside', shifts='none')
