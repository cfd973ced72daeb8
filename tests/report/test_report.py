"""The report: pictures show their numbers, tables mark the best, pages are whole."""

import base64
import dataclasses
import html.parser as html_parser
import io
import json
import pathlib
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from PIL import Image
from scipy import special

from ensdistill import compare, distillation, metrics, predictive, report, teacher
from ensdistill.commands import report as command
from ensdistill.config import build
from ensdistill.data.dataset import Split
from ensdistill.evaluation import measure
from ensdistill.logs import writers
from ensdistill.perturb import Space
from ensdistill.report import columns, figures, html, latex, probes, runs, tables, verdict
from ensdistill.report.figures import diversity, plane, quality, style
from ensdistill.training import step as train

SETS = {'valid': 24, 'test': 24, 'ood/far': 30}


def predictions(seed, members, labels):
  """Log-probabilities of members that know the labels fairly well, in distribution."""
  rng = np.random.default_rng(seed)
  found = {}
  for name, size in SETS.items():
    z_BMK = rng.normal(0, 1, (size, 1, 3)) + rng.normal(0, 1, (size, members, 3))
    if not name.startswith('ood'):
      z_BMK[np.arange(size), :, labels] += 2.5
    found[name] = special.log_softmax(z_BMK, -1).astype(np.float32)
  return found


@pytest.fixture(scope='module')
def dataset():
  return tiny.dataset()


def comparison(dataset, student='dirichlet', shifts=True):
  """Three members, their ensembles, and students of two seeds, with honest metrics."""
  logs = predictions(0, 3, dataset.test.y)
  mixture = lambda start, end: {n: predictive.Mixture(x[:, start:end]) for n, x in logs.items()}
  models = [compare.Model('member', [mixture(m, m + 1) for m in range(3)])]
  models += [compare.Model(f'ensemble-{m}', [mixture(0, m)]) for m in (2, 3)]
  kinds = {
    'dirichlet': lambda x: predictive.Dirichlet(special.logsumexp(x, 1) + 3),
    'members': predictive.Mixture,
    'single': lambda x: predictive.Mixture(x[:, :1]),
  }
  make = lambda seed: {
    n: kinds[student](x) for n, x in predictions(seed, 3, dataset.test.y).items()
  }
  models.append(compare.Model('student', [make(1), make(2)]))
  costs = {'params': 1000, 'ms_per_example': 0.5}
  rows = [
    compare.row(
      model.name,
      [measure.sets(dataset, r) | (shifted(i) if shifts else {}) for r in model.repeats],
      costs if model.name in ('member', 'ensemble-3', 'student') else {'params': 2000},
    )
    for i, model in enumerate(models)
  ]
  compare._add_gaps(rows)
  return compare.Comparison(rows, models, {'ood/lost': 'the folder is not there'})


def shifted(i):
  found = {
    f'shift/{kind}/{severity}/{metric}': value - 0.01 * severity - 0.001 * i
    for kind, value in (('blur', 0.9), ('noise', 0.7))
    for severity in (1, 2, 3, 4, 5)
    for metric in ('acc', 'ece')
  }
  return measure.with_means(found)


@pytest.fixture(scope='module')
def compared(dataset):
  return comparison(dataset)


def context(dataset, compared, seen=None):
  return figures.Context(dataset, compared.rows, compared.models, seen)


def flat_dataset(dataset):
  """The same labels on two-dimensional inputs."""
  x = np.random.default_rng(3).normal(0, 2, (48, 2)).astype(np.float32)
  splits = {
    n: Split(x[: len(s.y)], s.y) for n, s in (('train', dataset.train), ('test', dataset.test))
  }
  return dataclasses.replace(dataset, **splits)


def seen_by(dataset, name='ods'):
  """Probes of a picture's inputs, made up."""
  clean = dataset.test.x[:4]
  moved = np.clip(clean + 0.01, 0, 1) if clean.ndim == 4 else clean + 0.5
  grid = probes.grid(np.array([[-1.0, -2.0], [1.0, 2.0]]), 5)
  rng = np.random.default_rng(4)
  on_grid = predictive.Mixture(special.log_softmax(rng.normal(0, 2, (25, 3, 3)), -1))
  return probes.Probes(
    probes.Plane(grid, {'ensemble-3': on_grid, 'student': on_grid}),
    probes.Moved(name, clean, moved, np.arange(4.0), np.arange(4.0) + 1),
  )


def test_every_picture_is_drawn_and_not_empty(dataset, compared):
  flat = flat_dataset(dataset)
  seen = seen_by(dataset)
  for name in figures.names('categorical'):
    inputs = flat if name == 'input_plane' else dataset
    figure = figures.draw(name, context(inputs, compared, seen))
    drawn = [ax for ax in figure.axes if ax.get_label() != '<colorbar>']
    assert all(ax.lines or ax.images or ax.patches or ax.collections for ax in drawn), name
    assert len(figures.caption(name, 'categorical')) > 60, name
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


def test_pictures_leave_out_averages_that_no_run_is_about(dataset, compared):
  averaged = 'student-averaged'
  rows = [*compared.rows, compared.rows[-1] | {'name': averaged}]
  models = [*compared.models, compared.models[-1]._replace(name=averaged)]
  both, seen = compared._replace(rows=rows, models=models), seen_by(dataset)
  seen = seen._replace(plane=seen.plane._replace(predictives={'student': 1, averaged: 2}))
  found, looked = report.results.shown(tiny.config(), both, seen)
  assert found == compared and looked.plane.predictives == {'student': 1}
  config = tiny.config(student__kind='batch_ensemble', student__view='averaged')
  assert report.results.shown(config, both, seen) == (both, seen)


def test_reliability_shows_the_bins_of_ece(dataset, compared):
  figure = figures.draw('reliability', context(dataset, compared))
  ensemble = figure.axes[1]
  p = np.asarray(compared.models[2].repeats[0]['test'].log_probs())
  table = metrics.reliability(p, dataset.test.y)
  x, y = ensemble.containers[0].lines[0].get_data()
  faint = ensemble.containers[1].lines[0].get_xydata()
  shown = np.concatenate([np.stack([x, y], 1), faint])
  expected = np.stack([table.confidence, table.accuracy], 1)[table.count > 0]
  np.testing.assert_allclose(shown[shown[:, 0].argsort()], expected, rtol=1e-5)
  assert len(faint) == ((table.count > 0) & (table.count < 10)).sum() > 0
  ece = 100 * compared.rows[2]['metrics']['ece']
  assert f'ECE {ece:.2f} →' in ensemble.get_title()


def test_histograms_count_every_example(dataset, compared):
  """Two sets upwards for the ensemble, two downwards for the student, each of 100 percent."""
  figure = figures.draw('out_of_distribution', context(dataset, compared))
  for ax in figure.axes:
    filled = [p.get_data().values for p in ax.patches if p.get_fill()]
    np.testing.assert_allclose([v.sum() for v in filled], [100, 100, -100, -100], rtol=1e-9)
  models = compared.models
  scores = [
    np.asarray(models[2].repeats[0][s].knowledge(), np.float64) for s in ('test', 'ood/far')
  ]
  assert f'AUROC {metrics.auroc(*scores):.3f}' in figure.axes[0].texts[0].get_text()


def test_a_student_without_knowledge_is_said_to_have_none(dataset):
  figure = figures.draw('out_of_distribution', context(dataset, comparison(dataset, 'single')))
  assert 'no knowledge' in figure.axes[0].texts[1].get_text()
  assert 'AUROC' in figure.axes[1].texts[1].get_text()


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
  np.testing.assert_allclose(texts['student'], (1000, acc['student']))
  np.testing.assert_allclose(texts['2'], (2000, acc['ensemble-2']))
  low, high = params_acc.get_ylim()
  assert all(low < y < high for _, y in texts.values())
  assert len(figure.axes[1].texts) == 3  # the ensemble of 2 has no time


def test_shift_is_the_mean_over_kinds_from_the_clean_set_on(dataset, compared):
  accuracy, ece, kinds = figures.draw('shift', context(dataset, compared)).axes
  line = next(line for line in accuracy.lines if line.get_label() == 'ensemble of 3')
  row = compared.rows[2]['metrics']
  means = [100 * row[f'shift/mean/{s}/acc'] for s in (1, 2, 3, 4, 5)]
  np.testing.assert_allclose(line.get_ydata(), [100 * row['acc'], *means])
  assert list(line.get_xdata()) == [0, 1, 2, 3, 4, 5] and len(ece.lines) == 3
  assert set(quality.shifts(row)) == {'blur', 'noise'}
  np.testing.assert_allclose(
    kinds.lines[1].get_xdata(), [100 * row[f'shift/{k}/3/acc'] for k in ('blur', 'noise')]
  )


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
    make = lambda n: predictive.GaussianMixture(
      rng.normal(0, 1, (n, members, 2)), rng.normal(0, 0.3, (n, members, 2))
    )
    return {name: make(size) for name, size in SETS.items()}

  models = [compare.Model('member', [sets(1), sets(1)]), compare.Model('ensemble-2', [sets(2)])]
  models.append(compare.Model('student', [sets(2)]))
  rows = [
    compare.row(
      m.name, [metrics.summary.regression(r['test'], y) for r in m.repeats], {'params': 10 + i}
    )
    for i, m in enumerate(models)
  ]
  drawn = context(gaussian, compare.Comparison(rows, models, {}))
  applies = {name for name in figures.names('gaussian') if figures.draw(name, drawn)}
  assert applies == {'cost', 'pit', 'coverage', 'rejection', 'out_of_distribution'}
  assert [c.key for c in columns.table_columns(rows)][:2] == ['rmse', 'nll']


def test_a_picture_fits_its_limit():
  figure, ((ax,),) = style.panels(1, 1)
  ax.imshow(np.random.default_rng(0).random((300, 300)))
  assert len(style.png(figure, dpi=200, limit=30_000)) <= 30_000


def row(name, **values):
  return {'name': name, 'seeds': 1, 'se': {}, 'metrics': values}


def joined(*rows):
  return [tables.Row(r['name'], r, r['name'].startswith('student')) for r in rows]


def test_best_knows_ties_directions_and_rivals():
  acc, nll, kl = (
    next(c for c in columns.MAIN['categorical'] if c.key == k)
    for k in ('acc', 'nll', 'pairwise_kl')
  )
  rows = joined(
    row('member', acc=0.99, nll=0.1, pairwise_kl=0.0),
    row('student a', acc=0.91234, nll=0.30001, pairwise_kl=0.2),
    row('student b', acc=0.91233, nll=0.29999, pairwise_kl=0.1),
    row('student c', acc=0.90, nll=None),
  )
  assert tables.best(rows, acc) == {1, 2}  # written alike, 91.23, and the member is no rival
  assert tables.best(rows, nll) == {1, 2}
  assert tables.best(rows, nll._replace(form=columns.fixed(5))) == {2}
  assert tables.best(rows, kl) == set()
  assert tables.best(rows[:2], acc) == {0}  # one student: against all models
  assert tables.best(rows[:2], nll) == {0}
  assert tables.best(rows[1:2], acc) == set()


def results(rows, **changes):
  return {
    'name': 'run',
    'rows': rows,
    'not_run': {},
    'timings': {'teacher': 1.0},
    'pictures': {},
    'versions': {'jax': '1.2'},
    'command': 'python -m ensdistill.main --config=configs/kd_digits.py',
    **changes,
  }


def run_of(label, rows, view='members', **changes):
  config = {'data': {'name': 'digits'}, 'student': {'view': view}}
  return runs.Run(label, pathlib.Path(label), config, results(rows, **changes))


def test_markdown_and_latex_hold_every_row_once_with_the_best_in_bold():
  member, ensemble = row('member', acc=0.9, nll=0.3), row('ensemble-2', acc=0.95, nll=0.2)
  found = [
    run_of('a_b', [member, ensemble, row('student', acc=0.92, nll=0.25)]),
    run_of('c|d', [member, ensemble, row('student', acc=0.94, nll=0.28)]),
  ]
  lines = [re.split(r'(?<!\\)\|', line)[1:-1] for line in tables.markdown(found).splitlines()]
  assert len({len(line) for line in lines}) == 1
  names = [line[0].strip() for line in lines]
  assert names == ['model', '---', 'member', 'ensemble-2', 'a_b', r'c\|d']
  assert [c.strip() for c in lines[0][1:]] == ['ACC % ↑', 'NLL ↓']
  assert [c.strip() for c in lines[4][1:]] == ['92.00', '**0.2500**']
  assert [c.strip() for c in lines[5][1:]] == ['**94.00**', '0.2800']
  tex = latex.tables(found)
  assert r'a\_b & 92.00 & \textbf{0.2500} \\' in tex and r'ACC \%~$\uparrow$' in tex
  assert tex.count(r'\begin{tabular}{lrr}') == 1 and tex.count(r'\midrule') == 2
  assert 'ensemble of 2 & 95.00' in tex and r'\caption{digits: quality' in tex


def test_latex_fits_a_page_however_many_columns_there_are():
  values = {c.key: -0.1234 for c in (*columns.MAIN['categorical'], *columns.MORE['categorical'])}
  values |= {f'ood/set_{i}/auroc_{kind}': 0.9 for i in range(4) for kind in ('total', 'knowledge')}
  one = row('student', **values, params=1e6) | {'seeds': 3, 'se': dict.fromkeys(values, 0.0123)}
  found = [run_of(f'a_name_of_some_length_{i}_digits', [row('member', acc=0.5), one]) for i in 'ab']
  tex = latex.tables(found)
  assert len(tex.split('\\begin{table}')) - 1 == len(set(re.findall(r'\\label{(.*)}', tex))) > 5
  shown = 0
  for body in re.findall(r'\\toprule\n(.*?)\\bottomrule', tex, re.DOTALL):
    lines = [line for line in body.splitlines() if line != r'\midrule']
    assert len(lines) == 4 and all(line.endswith(r' \\') for line in lines)
    (count,) = {line.count(' & ') for line in lines}
    shown += count
    printed = re.sub(r'\\textbf|\\scriptsize|\$|\\pm|[{}\\ ]', '', lines[2])
    assert len(printed) < 100, printed  # of small digits, in part: 400 pt
  assert shown == len(columns.table_columns([one]))
  assert tex.count('{') == tex.count('}') and 'a\\_name\\_of\\_some\\_length\\_a &' in tex
  assert r'-- & ' in tex and r'\textbf{$-$12.34}{\scriptsize$\pm$1.23}' in tex


def test_of_several_runs_each_shows_the_view_that_it_is_about():
  rows = lambda nll: [
    row('member', nll=0.3),
    row('student', nll=nll),
    row('student-averaged', nll=9),
  ]
  group = [run_of('be', rows(0.2)), run_of('latentbe', rows(0.1), 'averaged')]
  assert [r.label for r in tables.joined(group)] == ['member', 'be', 'latentbe (averaged)']
  assert [r.label for r in tables.others(group)] == ['be (averaged)', 'latentbe (members)']
  alone = [r.label for r in tables.joined(group[:1])]
  assert alone == ['member', 'student', 'student (averaged)'] and not tables.others(group[:1])
  text = html._table(group)
  folded = text[text.index('<details>') :]
  assert '>be (averaged)' in folded and '>be (averaged)' not in text.replace(folded, '')
  assert '<b>' not in folded and '<b>' in text


def test_times_are_compared_only_where_machine_and_versions_agree():
  rows = lambda ms: [row('member', nll=1.0, ms_per_example=2.0), row('student', ms_per_example=ms)]
  here, there = {'processor': 'x', 'jax': '1'}, {'processor': 'y', 'jax': '1'}
  for versions, agree in (((here, here), True), ((here, there), False), (({}, {}), False)):
    found = [run_of(n, rows(ms), versions=v) for n, ms, v in zip('ab', (1.0, 3.0), versions)]
    joined = tables.joined(found)
    assert [r.row['metrics'][columns.TIMES] for r in joined] == [1.0, 0.5, 1.5]
    assert not any('ms_per_example' in r.row['metrics'] for r in joined)
    time = next(c for c in columns.COST if c.key == columns.TIMES)
    assert tables.best(joined, time) == ({1} if agree else set())
    assert ('same machine and versions' in html._table(found)) == agree
    assert ('no time is marked' in html._table(found)) == (not agree)
  assert 'ms/example' in tables.markdown(found[:1]) and not tables.time_note(
    tables.joined(found[:1])
  )


def test_another_teacher_has_its_own_rows():
  rows = lambda nll: [row('member', nll=nll), row('ensemble-2', nll=0.2), row('student', nll=0.3)]
  labels = [r.label for r in tables.joined([run_of('a', rows(0.5)), run_of('b', rows(0.6))])]
  assert labels == ['member', 'ensemble-2', 'member [b]', 'a', 'b']


def test_many_ensembles_are_thinned():
  rows = [row('member'), *(row(f'ensemble-{m}') for m in range(2, 101)), row('student')]
  names = [r['name'] for r in tables.some_ensembles(rows)]
  assert names == ['member', *(f'ensemble-{m}' for m in (2, 4, 8, 16, 32, 64, 100)), 'student']


def test_standard_errors_are_shown_over_seeds():
  one = row('student', nll=0.25) | {'seeds': 3, 'se': {'nll': 0.01}}
  nll = next(c for c in columns.MAIN['categorical'] if c.key == 'nll')
  assert tables.cell(one, nll) == '0.2500 ± 0.0100'
  found = [run_of('run', [row('member', nll=0.3), one])]
  assert r'\textbf{0.2500}{\scriptsize$\pm$0.0100}' in latex.tables(found)


def gap_rows():
  student = row(
    'student', acc=0.945, nll=0.25, ece=0.05, bs=0.1, dee=1.5, knowledge=0.0, params=100.0
  )
  student['metrics'] |= {'gap_closed/acc': 0.9, 'gap_closed/nll': 0.5, 'gap_closed/ece': 0.2}
  student |= {'seeds': 3, 'se': {'gap_closed/acc': 0.125}}
  student['metrics']['gap_closed/bs'] = None
  return [
    row('member', acc=0.9, nll=0.3, ece=0.01, bs=0.1),
    row('ensemble-4', acc=0.95, nll=0.2, ece=0.02, bs=0.1, knowledge=0.1, params=400.0),
    student,
  ]


def test_the_verdict_says_how_much_of_the_gap_is_closed():
  rows = gap_rows()
  found = verdict.gaps(rows, rows[-1])
  assert [(g.metric, g.closed, g.error) for g in found.closed] == [
    ('acc', 0.9, 0.125),
    ('nll', 0.5, None),
  ]
  assert found.no_gap == ['Brier score']
  assert found.worse == ['calibration (ECE)']  # the ensemble's is higher: closing it is no merit
  text = verdict.sentence('The student', rows, rows[-1])
  assert '50 % of the gap in NLL' in text and '90 ± 12 % of the gap in accuracy' in text
  assert 'worth 1.5 of its members' in text and '0.25 × its parameters' in text
  assert 'cannot tell knowledge' in text
  assert 'It is worse than one network in calibration (ECE).' in text
  rows[0]['se']['ece'] = 0.03  # as far as one member from another
  assert 'worse' not in verdict.sentence('The student', rows, rows[-1])


def test_the_verdict_of_a_student_that_closes_nothing():
  rows = gap_rows()
  rows[-1]['metrics'] |= {'gap_closed/acc': -0.5, 'gap_closed/nll': -0.1}
  text = verdict.sentence('The student', rows, rows[-1])
  assert 'closes none of the gap in NLL and accuracy between one network' in text
  assert '-' not in text
  alone = verdict.sentence('The student', [rows[0], rows[-1]], rows[-1])
  assert 'no ensemble to compare with' in alone


def test_more_disagreement_than_the_ensemble_has_is_no_merit():
  far, near = (verdict.Gap('pairwise_kl', 'disagreement', closed, None) for closed in (3.0, 0.8))
  assert verdict.merit(near) > verdict.merit(far)
  far, near = (verdict.Gap('nll', 'NLL', closed, None) for closed in (3.0, 0.8))
  assert verdict.merit(near) < verdict.merit(far)


def test_the_comparison_names_the_leader_of_each_gap():
  first, second = gap_rows(), gap_rows()
  second[-1]['metrics']['gap_closed/nll'] = 0.75
  for rows in (first, second):
    for r, bs in zip(rows, (0.2, 0.1, 0.3)):
      r['metrics']['bs'] = bs
    rows[-1]['metrics']['gap_closed/bs'] = -1.0
  lines = verdict.comparison([('one', first, first[-1]), ('two', second, second[-1])])
  assert 'one goes furthest in accuracy 90 ± 12 % of the gap.' in lines
  assert 'two goes furthest in NLL 75 % of the gap.' in lines
  assert 'No student closes any of the gap in Brier score.' in lines
  almost = verdict.Gap('nll', 'NLL', -1e-9, None)
  assert verdict.percent(almost) == '0'


class Page(html_parser.HTMLParser):
  """Text, tags and attributes of a page."""

  def __init__(self, text):
    super().__init__()
    self.tags, self.sources, self.text = [], [], ''
    self.feed(text)
    self.close()

  def handle_starttag(self, tag, attrs):
    self.tags.append((tag, dict(attrs)))
    self.sources += [v for k, v in attrs if k in ('src', 'href', 'srcset', 'data')]

  def handle_data(self, data):
    self.text += data


@pytest.fixture(scope='module')
def finished(tmp_path_factory, dataset, compared):
  """A run's folder as report.write leaves it, with NaN among its numbers."""
  folder = tmp_path_factory.mktemp('runs') / 'tiny'
  compared.rows[0]['metrics']['prr_epkl'] = float('nan')
  config = tiny.config(evaluate__ood='far,lost', seeds=2)
  (folder).mkdir()
  (folder / 'config.json').write_text(json.dumps(report.results.identity.to_json(config)))
  with writers.Writer(folder, quiet=True) as writer:
    timings = {'teacher': 1.0, 'student': 2.0}
    flat = flat_dataset(dataset)
    written = report.write(folder, config, flat, compared, seen_by(flat), timings, writer)
  return folder, written


def networks(config, dataset):
  """An untrained teacher of three members and an untrained student."""
  make = build.teacher_method(config, dataset)
  start = lambda method, n: train.start(
    *train.network_keys(jax.random.key(n), range(n)), method, jnp.zeros((1, *dataset.shape))
  )
  variables = lambda method, n: jax.device_get(start(method, n).variables)
  method = distillation.phases(config, dataset)[-1].method
  return (
    teacher.Teacher(make, variables(make, 3), '', None, 'vmap'),
    distillation.Distilled(method, variables(method, 1)),
  )


def test_probes_look_at_the_networks_themselves(dataset, monkeypatch):
  monkeypatch.setattr(probes, 'SIDE', 6)
  flat = dataclasses.replace(
    flat_dataset(dataset), mean=(0.0, 0.0), std=(1.0, 1.0), space=Space(-9.0, 9.0, 1.0)
  )
  config = tiny.config(perturb__name='gaussian', perturb__eta=0.5)
  ensemble, student = networks(config, flat)
  seen = probes.collect(config, flat, ensemble, student)
  assert seen.plane.x.shape == (6, 6, 2) and set(seen.plane.predictives) == {
    'ensemble-3',
    'student',
  }
  outputs = ensemble.freeze(ensemble.variables).outputs(seen.plane.x.reshape(-1, 2))
  expected = predictive.Mixture(jax.nn.log_softmax(outputs)).knowledge()
  np.testing.assert_allclose(
    seen.plane.predictives['ensemble-3'].knowledge(), expected, rtol=1e-3, atol=1e-6
  )
  spread = np.ptp(flat.train.x, axis=0)
  np.testing.assert_allclose(np.ptp(seen.plane.x, axis=(0, 1)), 1.5 * spread, rtol=1e-5)
  step = seen.moved.moved - seen.moved.clean
  assert seen.moved.name == 'gaussian' and 0.2 < step.std() < 0.8
  assert (seen.moved.before != seen.moved.after).all() and (seen.moved.after >= 0).all()
  still = probes.collect(tiny.config(), dataset, *networks(tiny.config(), dataset))
  assert still == probes.Probes(None, None)


def test_results_are_strict_json(finished):
  folder, written = finished

  def refuse(constant):
    raise AssertionError(constant)

  read = json.loads((folder / 'results.json').read_text(), parse_constant=refuse)
  assert read == written == report.load(folder)
  assert read['rows'][0]['metrics']['prr_epkl'] is None
  assert {'name', 'rows', 'not_run', 'timings', 'config_fingerprint', 'versions'} <= set(read)
  assert list(read['timings']) == ['teacher', 'student', 'report']
  assert 'x ' in read['versions']['processor'] and read['versions']['devices']
  assert 'NLL' in report.table(read) and 'ensemble-3' in report.table(read)


def test_the_page_is_whole_and_asks_for_nothing(finished):
  folder, written = finished
  text = (folder / 'report.html').read_text()
  page = Page(text)
  assert page.sources and all(s.startswith('data:') for s in page.sources)
  assert not re.search(r'url\(|@import|<script|<iframe', text) and 'prefers-color-scheme' in text
  assert any(t == 'meta' and a.get('name') == 'viewport' for t, a in page.tags)
  assert verdict.sentence('The student', written['rows'], written['rows'][-1]) in page.text
  bars = [a['aria-label'] for t, a in page.tags if a.get('role') == 'img']
  assert len(bars) == len(verdict.gaps(written['rows'], written['rows'][-1]).closed) > 2
  images = [a for t, a in page.tags if t == 'img']
  assert len(images) == len(written['pictures']) == 9 and all(len(a['alt']) > 60 for a in images)
  for image in images:
    kind, content = image['src'].split(';base64,')
    assert kind == 'data:image/svg+xml'
    assert ET.fromstring(base64.b64decode(content)).tag.endswith('svg')
  assert all(caption in page.text for caption in written['pictures'].values())
  config = json.loads((folder / 'config.json').read_text())
  assert json.dumps(config, indent=2, sort_keys=True) in page.text
  assert f'jax {written["versions"]["jax"]}' in page.text
  assert f'python -m ensdistill.report {folder}' in page.text
  assert 'ood/lost: the folder is not there' in page.text
  assert page.text.count('ensemble-3') == 1  # its row


CHROMIUM = next(filter(None, map(shutil.which, ('chromium', 'chromium-browser', 'chrome'))), None)
# How the browser's log marks what a page asks for, other than the browser itself.
BY_PAGES = '"traffic_annotation":101845102,"url":"'


def opened(page, folder):
  """A page in a browser: its document, its console's lines, what it asked the net for."""
  log = folder / 'net.json'
  flags = [
    '--headless',
    '--no-sandbox',
    '--disable-gpu',
    '--no-first-run',
    '--enable-logging=stderr',
  ]
  flags += ['--host-resolver-rules=MAP * ~NOTFOUND', '--disable-background-networking']
  flags += [f'--user-data-dir={folder / "profile"}', f'--log-net-log={log}', '--dump-dom']
  found = subprocess.run(
    [CHROMIUM, *flags, page.absolute().as_uri()], capture_output=True, text=True, timeout=240
  )
  console = [line for line in found.stderr.splitlines() if ':CONSOLE' in line]
  asked = re.findall(f'{BY_PAGES}(http[^"]*)"', log.read_text(errors='replace'))
  return Page(found.stdout), console, set(asked)


@pytest.mark.skipif(CHROMIUM is None, reason='no chromium is installed')
def test_a_browser_shows_the_page_without_complaint_or_request(finished, tmp_path):
  folder, written = finished
  page, console, asked = opened(folder / 'report.html', tmp_path)
  assert verdict.sentence('The student', written['rows'], written['rows'][-1]) in page.text
  assert f'{100 * written["rows"][-1]["metrics"]["acc"]:.2f}' in page.text
  assert not console and not asked
  bad = tmp_path / 'bad.html'
  bad.write_text('<p>text<script>console.error("oops")</script><img src="http://elsewhere.test/x">')
  page, console, asked = opened(bad, tmp_path)
  assert (
    page.text.startswith('text') and 'oops' in console[0] and asked == {'http://elsewhere.test/x'}
  )


def test_pictures_and_numbers_are_in_tensorboard(finished):
  from tensorboard.backend.event_processing import event_accumulator

  folder, written = finished
  events = event_accumulator.EventAccumulator(str(folder / 'tb' / 'report'))
  events.Reload()
  assert set(events.Tags()['images']) == {f'report/{name}' for name in written['pictures']}
  for tag in events.Tags()['images']:
    (image,) = events.Images(tag)
    content = image.encoded_image_string
    assert len(content) <= 160_000 and Image.open(io.BytesIO(content)).width == image.width > 100
  final = event_accumulator.EventAccumulator(str(folder / 'tb' / 'final'))
  final.Reload()
  assert final.Scalars('final/nll')[0].value == pytest.approx(written['rows'][-1]['metrics']['nll'])


def test_pictures_lie_beside_the_page(finished):
  folder, written = finished
  for name in written['pictures']:
    assert ET.parse(folder / 'figures' / f'{name}.svg').getroot().tag.endswith('svg')
    content = (folder / 'figures' / f'{name}.png').read_bytes()
    pixels = style.pixels(content)
    assert len(content) <= 150_000 and pixels.shape[1] > 300 and pixels.std() > 10, name


def test_bars_stand_where_their_values_are():
  rows = gap_rows()
  text = html._bars('The student', rows, rows[-1])
  zero, one = html._at(0), html._at(1)
  styles = re.findall(r'class="fill( below)?" style="left:([\d.]+)%;width:([\d.]+)%"', text)
  assert [float(s[1]) for s in styles] == pytest.approx([zero, zero], abs=0.06)
  assert [float(s[2]) for s in styles] == pytest.approx(
    [0.9 * (one - zero), 0.5 * (one - zero)], abs=0.06
  )
  assert text.count('class="error"') == 1  # one has several seeds
  rows[-1]['metrics']['gap_closed/nll'] = -3.0
  below = html._bars('The student', rows, rows[-1])
  assert 'fill below" style="left:0.0%' in below and '◂ -300 %' in below


def test_names_cannot_break_the_page(finished):
  folder, written = finished
  (run,) = runs.read([folder])
  bad = run._replace(label='<script>x</script> & "q"')
  text = html.page([bad])
  assert '<script' not in text and '&lt;script&gt;' in text


def second_run(finished, tmp_path, name='other'):
  folder, written = finished
  other = tmp_path / name
  other.mkdir()
  (other / 'config.json').write_text((folder / 'config.json').read_text())
  changed = json.loads(json.dumps(written))
  changed['rows'][-1]['metrics'] |= {'nll': 9.0, 'gap_closed/nll': -50.0}
  (other / 'results.json').write_text(json.dumps(changed))
  return other


def test_the_command_compares_runs(finished, tmp_path, capsys):
  folder, written = finished
  other = second_run(finished, tmp_path)
  out = tmp_path / 'pages' / 'all.html'
  assert command.main([str(folder), str(other), f'--out={out}']) == 0
  printed = capsys.readouterr().out
  markdown = out.with_suffix('.md').read_text()
  assert markdown in printed
  lines = {line.split('|')[1].strip(): line for line in markdown.splitlines()}
  assert list(lines) == ['model', '---', 'member', 'ensemble-2', 'ensemble-3', 'tiny', 'other']
  nll = [c.key for c in columns.table_columns(written['rows'])].index('nll') + 2
  bold = f'**{written["rows"][-1]["metrics"]["nll"]:.4f} ±'
  assert lines['tiny'].split('|')[nll].strip().startswith(bold)
  assert '9.0000' in lines['other'] and r'\toprule' in out.with_suffix('.tex').read_text()
  page = Page(out.read_text())
  assert all(s.startswith('data:') for s in page.sources)
  assert re.search('tiny goes furthest in [^.]*NLL', page.text)
  assert page.text.count('ensemble-3') == 1 and len([t for t, _ in page.tags if t == 'img']) == 9
  assert 'is not there' in page.text  # the second run has no pictures


def test_the_command_refuses_what_is_no_run(finished, tmp_path, capsys):
  assert command.main([str(tmp_path)]) == 2
  assert 'holds no finished run' in capsys.readouterr().err
  assert command.main([str(finished[0]), '--out=x.md']) == 2
  assert '.html' in capsys.readouterr().err


def test_a_single_run_is_written_anew_in_its_folder(finished):
  folder, _ = finished
  before = (folder / 'report.html').read_text()
  assert command.main([str(folder)]) == 0
  assert (folder / 'report.html').read_text() == before
  assert (folder / 'report.md').exists()


def test_a_picture_that_fails_costs_nothing_else(dataset, compared, tmp_path, monkeypatch, capsys):
  def broken(context):
    raise RuntimeError('no ink')

  monkeypatch.setitem(figures.FIGURES, 'categorical', {'broken': broken, 'cost': quality.cost})
  with writers.Writer(tmp_path, stream=sys.stdout) as writer:
    drawn = report.results.draw(tmp_path, dataset, compared, None, writer)
  assert list(drawn) == ['cost'] and 'no ink' in capsys.readouterr().out


def test_the_command_line_is_repeated(monkeypatch):
  monkeypatch.setattr(sys, 'argv', ['/x/ensdistill/main.py', '--config=a b.py'])
  assert report.results.command() == "python -m ensdistill.main '--config=a b.py'"
  monkeypatch.setattr(sys, 'argv', ['/x/pytest'])
  assert report.results.command() is None


def test_matplotlib_waits_until_something_is_drawn():
  code = 'import sys; import ensdistill.report.html; sys.exit("matplotlib" in sys.modules)'
  assert subprocess.run([sys.executable, '-c', code]).returncode == 0
