"""Pictures show their numbers, and only the pictures that apply are drawn."""

import dataclasses

import matplotlib
import numpy as np
import pytest
from reports import SETS, comparison, context, flat_dataset, model, row_of, seen_by
from scipy import special

from ensdistill import data, metrics, predictive
from ensdistill.data.dataset import Split
from ensdistill.evaluation.comparison import Comparison
from ensdistill.report import columns, figures, noise
from ensdistill.report.figures import (
  calibration,
  diversity,
  examples,
  plane,
  points,
  quality,
  style,
)


def test_every_picture_is_drawn_and_not_empty(dataset, compared):
  flat = flat_dataset(dataset)
  seen = seen_by(dataset)
  applies = {*figures.FIGURES} - {'bands', 'pit', 'coverage', 'subspace'}
  for name in figures.FIGURES:
    inputs = flat if name == 'input_plane' else dataset
    figure = figures.draw(name, context(inputs, compared, seen))
    assert (figure is not None) == (name in applies), name
    if figure is None:
      continue
    drawn = [ax for ax in figure.axes if ax.get_label() != '<colorbar>']
    assert all(ax.lines or ax.images or ax.patches or ax.collections for ax in drawn), name
    assert len(figures.caption(name)) > 60, name
  assert figures.draw('perturbed_inputs', context(flat, compared, seen_by(flat))).axes[0].has_data()


def test_pictures_that_do_not_apply_are_left_out(dataset):
  compared = comparison(dataset, 'single', shifts=False)
  alone = compared._replace(models=[compared.models[0], compared.models[-1]])
  no_ood = [
    m._replace(repeats=[{k: v for k, v in r.items() if not k.startswith('ood')} for r in m.repeats])
    for m in compared.models
  ]
  assert figures.draw('shift', context(dataset, compared)) is None
  assert figures.draw('input_plane', context(dataset, compared)) is None
  assert figures.draw('perturbed_inputs', context(dataset, compared)) is None
  assert figures.draw('diversity', context(dataset, alone)) is None
  assert figures.draw('simplex', context(dataset, alone)) is None
  assert figures.draw('out_of_distribution', context(dataset, alone)) is None
  without = compared._replace(models=no_ood)
  assert figures.draw('out_of_distribution', context(dataset, without)) is None
  many = dataclasses.replace(dataset, targets=4)
  assert figures.draw('simplex', context(many, compared)) is None


def test_reliability_shows_joined_bins_and_the_ece(dataset, compared):
  figure = figures.draw('reliability', context(dataset, compared))
  ensemble = figure.axes[1]
  p = np.asarray(compared.models[2].repeats[0]['test'].log_probs())
  table = metrics.reliability(p, dataset.test.y)
  bins = calibration.joined(table, 10)
  np.testing.assert_allclose(
    ensemble.containers[0].lines[0].get_xydata(),
    np.stack([bins.confidence, bins.accuracy], 1),
    rtol=1e-5,
  )
  assert bins.size.sum() == len(p) and bins.size.min() >= 10 and len(bins.size) == 2
  right = (p.argmax(-1) == dataset.test.y).sum()
  np.testing.assert_allclose((bins.size * bins.accuracy).sum(), right)
  assert (np.diff(bins.confidence) > 0).all()
  ece, cece = (100 * compared.rows[2]['metrics'][key] for key in ('ece', 'cece'))
  worse = ', worse' if cece > ece + 0.1 else ''
  assert f'ECE {ece:.2f} → {cece:.2f} %{worse}\nT = ' in ensemble.get_title()


def test_bins_without_enough_examples_are_one():
  table = metrics.reliability(np.log([[0.9, 0.1], [0.6, 0.4]]), np.array([0, 1]))
  bins = calibration.joined(table, 10)
  np.testing.assert_allclose([bins.confidence, bins.accuracy, bins.size], [[0.75], [0.5], [2]])


def test_curves_of_uncertainty_are_distributions(dataset, compared):
  """Each rises from 0 to 1; the title has the AUROC."""
  figure = figures.draw('out_of_distribution', context(dataset, compared))
  assert len(figure.axes) == 4
  for ax in figure.axes:
    assert [line.get_label() for line in ax.lines] == ['test set', 'far']
    for line in ax.lines:
      y = line.get_ydata()
      assert y[0] == 0 and y[-1] == 1 and (np.diff(y) >= 0).all()
  models = compared.models
  scores = [
    np.asarray(models[2].repeats[0][s].knowledge(), np.float64) for s in ('test', 'ood/far')
  ]
  title = figure.axes[2].get_title()
  assert title == f'ensemble of 3, knowledge\nAUROC {100 * metrics.auroc(*scores):.1f} %'
  test = figure.axes[2].lines[0]
  middle = np.searchsorted(test.get_ydata(), 0.5)
  expected = np.sort(scores[0])[len(scores[0]) // 2 - 1]
  np.testing.assert_allclose(test.get_xdata()[middle], expected, rtol=1e-5)


def test_a_student_without_knowledge_has_no_empty_panel(dataset):
  figure = figures.draw('out_of_distribution', context(dataset, comparison(dataset, 'single')))
  titles = [ax.get_title().split('\n')[0] for ax in figure.axes]
  assert titles == ['ensemble of 3, total', 'student, total', 'ensemble of 3, knowledge']


def test_rejection_starts_at_the_error_and_ends_with_the_oracle_below(dataset, compared):
  figure = figures.draw('rejection', context(dataset, compared))
  for ax, name in zip(figure.axes, ('member', 'ensemble-3', 'student')):
    row = next(r for r in compared.rows if r['name'] == name)
    lines = {line.get_label(): line.get_ydata() for line in ax.lines}
    error = 100 * (1 - row['metrics']['acc'])
    assert all(np.isclose(lines[k][0], error) for k in ('total uncertainty', 'random', 'oracle'))
    assert (lines['oracle'] <= lines['total uncertainty'] + 1e-9).all()
    assert ('knowledge uncertainty' in lines) == (name != 'member')
    top, right = ax.get_ylim()[1], ax.get_xlim()[1]
    assert top >= error and 5 <= right <= 100


def test_cost_labels_every_model_where_it_stands(dataset, compared):
  figure = figures.draw('cost', context(dataset, compared))
  params_acc = figure.axes[0]
  texts = {text.get_text(): text.xy for text in params_acc.texts}
  assert set(texts) == {'one member', '2', 'ensemble of 3', 'student'}
  acc = {row['name']: 100 * row['metrics']['acc'] for row in compared.rows}
  np.testing.assert_allclose(texts['student'], (1000, acc['student']), rtol=0.02)
  np.testing.assert_allclose(texts['2'], (2000, acc['ensemble-2']))
  low, high = params_acc.get_ylim()
  assert all(low < y < high for _, y in texts.values())
  assert len(figure.axes[1].texts) == 3  # the ensemble of 2 has no time


def test_shift_is_the_mean_over_kinds_from_the_clean_set_on(dataset, compared):
  accuracy, ece, kinds = figures.draw('shift', context(dataset, compared)).axes
  bars = dict(zip(*accuracy.get_legend_handles_labels()[::-1]))
  line = bars['ensemble of 3'].lines[0]
  row = compared.rows[2]['metrics']
  means = [100 * row[f'shift/mean/{s}/acc'] for s in (1, 2, 3, 4, 5)]
  np.testing.assert_allclose(line.get_ydata(), [100 * row['acc'], *means])
  assert np.allclose(line.get_xdata(), [0, 1, 2, 3, 4, 5], atol=0.1) and len(bars) == 3
  assert set(quality.shifts(row)) == {'blur', 'noise'}
  np.testing.assert_allclose(
    np.asarray(kinds.containers[1].lines[0].get_xdata(), float),
    [100 * row[f'shift/{k}/3/acc'] for k in ('blur', 'noise')],
  )
  ((_, high),) = bars['student'].lines[2][0].get_segments()[:1]  # the whiskers of the test set
  error = 100 * noise.of_row(compared.rows[-1], 'acc')
  np.testing.assert_allclose(high[1] - 100 * compared.rows[-1]['metrics']['acc'], error)


def test_one_architecture_has_one_time():
  def of(role, ms, flops=9.0):
    return {'role': role, 'metrics': {'params': 5, 'flops': flops, 'ms_per_example': ms}}

  found = quality.same_times([of('member', 1.0), of('student', 1.4), of('averaged', 3.0, 8.0)])
  assert [row['metrics']['ms_per_example'] for row in found] == [1.2, 1.2, 3.0]
  assert abs(found[0]['metrics']['ms_per_example/spread'] - 0.2) < 1e-9


def test_times_of_small_networks_are_in_microseconds():
  def rows(ms):
    return [{'metrics': {'params': 5, 'ms_per_example': ms}}, {'metrics': {'ms_per_example': 0.01}}]

  titles = [[axis.title for axis in quality._costs(rows(ms))] for ms in (0.02, 2.0)]
  assert titles == [['µs per example (batch of 128)'], ['ms per example (batch of 128)']]
  (axis,) = quality._costs(rows(0.02))
  look = {'name': 'student', 'role': 'student', 'size': 1, 'seeds': 1, 'se': {}}
  found = [row | look for row in rows(0.02)]
  found[0]['metrics'] |= {'acc': 0.9, 'ms_per_example/spread': 0.001}
  (point,) = quality._points(found, axis, points.QUALITY[0])
  assert (point.x, point.x_error, point.y) == (20, 1, 90)


@pytest.mark.parametrize('limits', [(3, 40), (0.7, 150), (1e-6, 1), (0.02, 0.1)])
def test_a_logarithmic_axis_has_two_to_seven_labels(limits):
  figure, ((ax,),) = style.panels(1, 1)
  ax.set(xscale='log', xlim=limits)
  style.log_axis(ax.xaxis)
  inside = [at for at in ax.get_xticks() if limits[0] <= at <= limits[1]]
  assert 2 <= len(inside) <= 7


@pytest.mark.parametrize('labels, columns', [(4, 2), (5, 3), (6, 3), (2, 2)])
def test_rows_of_a_legend_are_about_equal(labels, columns):
  figure, ((ax,),) = style.panels(1, 1, width=8)
  for number in range(labels):
    ax.plot([0], [0], label=f'{number} is a label with letters')
  style.legend_below(figure, ax, columns=3)
  assert figure.legends[0]._ncols == columns


def test_points_of_equal_cost_lie_side_by_side():
  def at(x, small=False):
    return points.Point(x, 1.0, '', style.look('student', 1), small=small)

  found = [p.x for p in points.apart([at(100), at(400), at(100), at(101), at(399, True)])]
  assert found[1] == pytest.approx(400) and found[4] == pytest.approx(399)  # small ones stay
  near = np.log([found[0], found[2], found[3]])
  least = points.APART * np.log(4)
  np.testing.assert_allclose(np.diff(near), least)  # in the order of the costs
  np.testing.assert_allclose(near.mean(), np.log([100, 100, 101]).mean())
  assert points.apart([]) == [] and [p.x for p in points.apart([at(5)])] == [pytest.approx(5)]


def test_the_front_has_what_no_cheaper_model_beats():
  def at(x, y):
    return points.Point(x, y, '', style.look('student', 1))

  found = [at(1, 3), at(2, 4), at(2, 2), at(3, 2), at(4, 1)]
  assert [(p.x, p.y) for p in points.front(found, higher=False)] == [(1, 3), (2, 2), (4, 1)]
  assert [(p.x, p.y) for p in points.front(found, higher=True)] == [(1, 3), (2, 4)]


@pytest.mark.parametrize('name', ['reliability', 'out_of_distribution', 'shift', 'cost'])
def test_on_a_phone_panels_lie_below_each_other(name, dataset, compared):
  wide = figures.draw(name, context(dataset, compared))
  narrow = figures.draw(name, context(dataset, compared), narrow=True)
  assert narrow.get_figwidth() == style.NARROW < wide.get_figwidth()
  drawn = narrow.axes
  assert len({round(ax.get_position().y0, 3) for ax in drawn}) == len(drawn) == len(wide.axes)
  wanted = [bool(ax.get_ylabel()) for ax in wide.axes]
  if name == 'shift':  # kinds of shift name themselves
    assert [bool(ax.get_ylabel()) for ax in drawn] == wanted == [True, True, False]
  else:
    assert all(ax.get_ylabel() for ax in drawn)
  assert all(ax.get_xlabel() for ax in drawn)
  renderer = narrow.canvas.get_renderer() if hasattr(narrow.canvas, 'get_renderer') else None
  for legend in narrow.legends:
    box = legend.get_window_extent(renderer)
    assert box.width <= narrow.bbox.width


def test_svg_follows_the_readers_preference(dataset, compared):
  figure = figures.draw('cost', context(dataset, compared))
  text = style.svg(figure).decode()
  assert '<style>@media (prefers-color-scheme: dark)' in text
  for light in (style.INK, style.GREY, style.VERMILLION):
    assert light.lower() in text.split('</style>', 1)[1]
  assert '#ffffff' not in text.split('</style>', 1)[1].lower()  # no background
  pixels = style.pixels(style.png(figure))
  assert (pixels[0, 0] == 255).all()  # bitmaps have one


def test_diversity_is_the_mean_kl_of_each_pair(dataset):
  compared = comparison(dataset, 'members')
  ensemble, student, _ = figures.draw('diversity', context(dataset, compared)).axes
  log_p = np.asarray(compared.models[2].repeats[0]['test'].log_probs_BMK, np.float64)
  expected = [
    [np.mean([special.rel_entr(*np.exp(x[[i, j]])).sum() for x in log_p]) for j in range(3)]
    for i in range(3)
  ]
  np.testing.assert_allclose(ensemble.images[0].get_array(), expected, rtol=1e-4, atol=1e-7)
  assert ensemble.images[0].get_clim() == student.images[0].get_clim()
  mean = diversity.pairwise(log_p).sum() / 6
  np.testing.assert_allclose(mean, compared.rows[2]['metrics']['pairwise_kl'], rtol=1e-4)


def test_plane_has_a_row_a_model_and_one_scale_a_column(dataset, compared):
  seen = seen_by(dataset)
  figure = figures.draw('input_plane', context(flat_dataset(dataset), compared, seen))
  on_grid = seen.plane.predictives['student']
  shown = figure.axes[5].collections[0]
  np.testing.assert_allclose(shown.get_array().ravel(), on_grid.knowledge(), rtol=1e-4, atol=1e-6)
  assert figure.axes[2].collections[0].get_clim() == shown.get_clim()
  labels = [figure.axes[i].get_ylabel() for i in (0, 3)]
  assert labels == ['ensemble of 3\ninput 2', 'student\ninput 2']
  assert [ax.get_xlabel() for ax in figure.axes[:6]] == [''] * 3 + ['input 1'] * 3
  assert plane.SHOWN > 48 and sum(len(line.get_xdata()) for line in figure.axes[0].lines) == 48


def test_simplex_shows_the_members_and_the_draws(dataset, compared):
  for ax in figures.draw('simplex', context(dataset, compared)).axes:
    counts = [len(line.get_xdata()) for line in ax.lines]
    assert sorted(counts) == [3, 4, 600]  # members, the triangle, draws
    points = np.concatenate([line.get_xydata() for line in ax.lines])
    assert points[:, 1].min() > -1e-9 and points[:, 1].max() < 0.87
  drawn = diversity.draws(predictive.Dirichlet(np.log([[2.0, 3.0, 5.0]])), 0, 20000)
  np.testing.assert_allclose(drawn.mean(0), [0.2, 0.3, 0.5], atol=0.01)


def test_names_with_dollars_are_drawn_as_they_are(dataset, compared):
  names = (r'$\oops$', 'a $b', '$5 to $9')
  own = dataclasses.replace(dataset, classes=names)
  shown = [text.get_text() for ax in figures.draw('simplex', context(own, compared)).axes
           for text in ax.texts]  # fmt: skip
  assert set(names) <= set(shown)
  for narrow in (False, True):
    assert style.svg(figures.draw('simplex', context(own, compared), narrow=narrow))
  x = np.random.default_rng(0).normal(size=(30, 2))
  table = data.from_arrays(x, np.arange(30) % 3, columns=['$x_', r'$\oops$'], names=list(names))
  with matplotlib.rc_context(style.SETTINGS):
    figure = examples.columns(*table.train, table, 'price in $: $\\oops$')
    assert style.png(figure)
    assert [ax.get_title() for ax in figure.axes] == ['$x_', r'$\oops$']


def test_perturbed_inputs_show_the_difference(dataset, compared):
  figure = figures.draw('perturbed_inputs', context(dataset, compared, seen_by(dataset)))
  difference = figure.axes[2].images[0]
  probe = seen_by(dataset).moved
  np.testing.assert_allclose(
    difference.get_array(), (probe.moved - probe.clean)[0, ..., 0], atol=1e-7
  )
  assert figure.axes[2].get_ylabel() == 'difference\n100 ×'
  assert [figure.axes[i].texts[1].get_text() for i in (0, 1)] == ['1', '2']
  titles = [text.get_text() for text in figure.axes[0].texts[5:]]
  assert titles == [*(f'class {y}' for y in dataset.test.y[:4]), 'label']
  assert [len(ax.images) for ax in figure.axes] == [4, 4, 4]


def test_regression_draws_what_applies(dataset):
  rng = np.random.default_rng(5)
  y = rng.normal(0, 1, (24, 2)).astype(np.float32)
  gaussian = dataclasses.replace(
    dataset, family='gaussian', test=Split(dataset.test.x, y), targets=2
  )

  def sets(members):
    return {
      name: predictive.GaussianMixture(
        rng.normal(0, 1, (n, members, 2)), rng.normal(0, 0.3, (n, members, 2))
      )
      for name, n in SETS.items()
    }

  models = [
    model('member', 1, [sets(1), sets(1)]),
    model('ensemble', 2, [sets(2)]),
    model('student', 2, [sets(2)]),
  ]
  rows = [
    row_of(m, [metrics.summary.regression(r['test'], y) for r in m.repeats], {'params': 10 + i})
    for i, m in enumerate(models)
  ]
  drawn = context(gaussian, Comparison(rows, models, {}, {}))
  applies = {name for name in figures.FIGURES if figures.draw(name, drawn)}
  assert applies == {'cost', 'pit', 'coverage', 'rejection', 'out_of_distribution'}
  assert [c.key for c in columns.table_columns(rows)][:2] == ['rmse', 'nll']


def test_a_picture_fits_its_limit():
  figure, ((ax,),) = style.panels(1, 1)
  ax.imshow(np.random.default_rng(0).random((300, 300)))
  assert len(style.png(figure, dpi=200, limit=30_000)) <= 30_000
