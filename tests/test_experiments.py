"""The experiments' plans, data, tables and claims."""

import json
import pathlib
import re
import subprocess
import sys
from xml.etree import ElementTree

import numpy as np
import pytest
import sweeps

from ensdistill import data as datasets
from ensdistill.sweep import models
from ensdistill.sweep.statistics import Estimate
from experiments import claims, pictures, plans, sections
from experiments.cifar_small import collect as small_tables
from experiments.cifar_small import data as small
from experiments.cifar_small import run as cifar_small
from experiments.full import collect as full_tables
from experiments.full import gate
from experiments.full import run as full
from experiments.grid import collect as grid
from experiments.grid import run as grid_run
from experiments.hydra import uci
from experiments.mnist import data as mnist
from experiments.spirals import posterior

ROOT = pathlib.Path(__file__).parent.parent


def test_images_are_box_averaged_to_half_their_size(tmp_path):
  random = np.random.default_rng(0)
  x = random.integers(0, 256, (3, 32, 32, 3), np.uint8)
  found = small.box(x)
  means = x.astype(np.float64).reshape(3, 16, 2, 16, 2, 3).mean((2, 4))
  assert found.dtype == np.uint8 and np.abs(found - means).max() <= 0.5
  assert (found[0, 0, 0] == np.floor(x[0, :2, :2].astype(int).mean((0, 1)) + 0.5)).all()
  arrays = {'x_train': np.resize(x, (9000, 32, 32, 3)), 'y_train': np.arange(9000) % 10}
  arrays |= {'x_test': x, 'y_test': np.arange(3)}
  arrays['x_train'][8000:] = 7
  np.savez(tmp_path / 'cifar10.npz', **arrays)
  small.main([f'--cifar10={tmp_path / "cifar10.npz"}', f'--out={tmp_path / "data"}'])
  made = np.load(tmp_path / 'data' / 'cifar_small.npz')
  assert {name: len(made[name]) for name in made} == {
    'x_train': 6000, 'y_train': 6000, 'x_valid': 2000, 'y_valid': 2000, 'x_test': 3, 'y_test': 3
  }  # fmt: skip
  assert (made['y_valid'] == np.arange(6000, 8000) % 10).all()
  grid_set = np.load(tmp_path / 'data' / 'cifar_grid.npz')
  assert (grid_set['x_test'] == 7).all() and len(grid_set['x_test']) == 1000
  assert (grid_set['x_train'] == made['x_train']).all()
  dataset = datasets.load('cifar_small', dir=str(tmp_path / 'data'), valid=2000)
  assert len(dataset.valid.y) == 2000 and dataset.shape == (16, 16, 3)


def test_digits_are_moved_cyclically():
  x = np.random.default_rng(0).integers(0, 256, (40, 28, 28, 1), np.uint8)
  found = mnist.rolled(x, 4)
  ways = [np.roll(x, move, axis) for axis in (1, 2) for move in (4, -4)]
  hits = [[(one == way[i]).all() for way in ways].index(True) for i, one in enumerate(found)]
  assert set(hits) == {0, 1, 2, 3}


def test_the_posterior_is_that_of_the_generating_process():
  """It is calibrated: its NLL is its entropy, and labels are as frequent as it says."""
  test = datasets.load('spirals', per_class=400, seed=5, noise=0.5).test
  log_p = posterior.log_posterior(test.x, noise=0.5, points=4000)
  p = np.exp(log_p)
  np.testing.assert_allclose(p.sum(1), 1, rtol=1e-9)
  loss = -log_p[np.arange(len(p)), test.y]
  entropy = -(p * np.where(p > 0, log_p, 0)).sum(1)
  error = np.std(loss - entropy) / len(p) ** 0.5
  assert abs(loss.mean() - entropy.mean()) < 4 * error
  unsure = (p > 0.1) & (p < 0.9)
  hits = (np.arange(3) == test.y[:, None])[unsure]
  assert len(hits) > 100 and abs(hits.mean() - p[unsure].mean()) < 4 * 0.5 / len(hits) ** 0.5
  assert posterior.reference(log_p, test.y)['acc'] == (p.argmax(1) == test.y).mean()


@pytest.mark.parametrize('plan', [cifar_small.PLAN, cifar_small.FIRST, grid_run.PLAN])
def test_the_labels_of_a_plan_are_those_of_its_records(plan, tmp_path, monkeypatch):
  """The jobs of the command have the labels by which the collectors find what has run."""
  from ensdistill.commands import sweep

  options = sweep._parser('x').parse_args(
    [a for a in plan.arguments(tmp_path) if not a.startswith('--config.')]
  )
  kinds = sweep._kinds(options, [a for a in plan.arguments() if a.startswith('--config.')])
  assert [kind.label for kind in kinds] == plan.labels()


def test_the_first_runs_are_runs_of_the_whole_plan():
  assert {*cifar_small.FIRST.labels()} < {*cifar_small.PLAN.labels()}


def test_what_has_not_run_is_named():
  plan = plans.Plan('x', 'digits:small', ('kd', 'hydra', 'end2'))
  records = sweeps.sweep()[:-1]
  assert plans.missing(plan, records) == ('Not run: `end2`. Not finished (runs): `hydra` (5 of 6).')
  assert not plans.missing(plan._replace(methods=('kd',)), records)
  text = sections.of_plan(plan, [], sections.QUALITY, 'About.')
  assert text.startswith(sections.NOT_RUN) and '`end2`' in text
  text = sections.of_plan(plan, records, sections.QUALITY, 'About.')
  assert '- `hydra` - `kd`: -0.1000 ± 0.0000 (3 teacher(s), 5 run(s))' in text


def claim(**fields):
  made = dict(paper='A', text='b', experiment='digits', label='hydra', other='kd', metric='nll')
  return claims.Claim(**(made | fields))


@pytest.mark.parametrize(
  'mean, error, fields, verdict',
  [
    (-0.1, 0.04, {}, claims.HELD),
    (-0.1, 0.06, {}, claims.NOISE),
    (0.1, 0.04, {}, claims.NOT_HELD),
    (0.1, 0.04, {'better': 'higher'}, claims.HELD),
    (-0.1, None, {}, claims.ONE_TEACHER),
    (0.005, 0.002, {'margin': 0.01}, claims.HELD),
    (0.02, 0.002, {'margin': 0.01}, claims.NOT_HELD),
    (0.009, 0.002, {'margin': 0.01}, claims.NOISE),
  ],
)
def test_verdicts(mean, error, fields, verdict):
  assert claims.judged(claim(**fields), Estimate(mean, error, 3, 6)) == verdict


def test_a_single_teacher_decides_nothing():
  assert claims.judged(claim(), Estimate(-0.1, 0.01, 1, 6)) == claims.ONE_TEACHER


def test_the_best_combination():
  records = []
  for (method, objective, move), value in {
    ('kd', '', 'none'): 0.8, ('kd', '', 'tdiv'): 0.6, ('hydra', 'members', 'none'): 0.7,
  }.items():  # fmt: skip
    settings = {'perturb.name': move} | ({'objective.name': objective} if objective else {})
    for t in range(3):
      noise = 0.001 * (-1) ** t if move == 'tdiv' else 0
      records.append(sweeps.record(method, t, 0, value + t + noise, settings=settings))
  found = claims.outcome(claims.BEST, records)
  assert found.verdict == claims.HELD and found.number.startswith('-0.0997 ±')
  worse = [dict(r, rows=[dict(row) for row in r['rows']]) for r in records]
  for record in worse:
    if record['method'] == 'hydra':
      student = record['rows'][-1]
      student['metrics'] = student['metrics'] | {'nll': 0.5 + record['teacher']}
  assert claims.outcome(claims.BEST, worse).verdict == claims.NOT_HELD
  assert claims.outcome(claims.BEST, sweeps.sweep()).verdict == claims.NOT_TESTED


def test_claims_from_records():
  records = sweeps.sweep()
  found = claims.outcome(claim(), records)
  assert found.verdict == claims.HELD and found.number.startswith('-0.1000 ±')
  assert found.hours == pytest.approx(12 * 2.5 / 3600)
  assert claims.outcome(claim(other=claims.ENSEMBLE), records).verdict == claims.NOT_HELD
  assert claims.outcome(claim(label='end2'), records).verdict == claims.NOT_TESTED
  averaged = [sweeps.record('latentbe', t, 0, 0.5 + t, view='averaged') for t in range(3)]
  averaged[0]['rows'][-1]['metrics']['nll'] += 0.01
  found = claims.outcome(claim(label='latentbe', other=claims.MEMBERS), averaged)
  assert found.verdict == claims.NOT_HELD and found.number.startswith('+0.0533')
  margin = claim(label='latentbe', other=claims.MEMBERS, of_gap=1.0)  # more than it loses
  assert claims.outcome(margin, averaged).verdict == claims.HELD


def test_noise_on_all_sets_of_regression_decides_nothing():
  random = np.random.default_rng(0)

  def record(apart):
    nll = random.normal(size=20)
    return {
      'variant': '',
      'nll': {'kd': nll, 'hydra': nll + apart + random.normal(size=20) / 9},
      'wall': 9,
    }

  for apart, verdict in ((0.0, claims.NOISE), (-1.0, claims.HELD), (1.0, claims.NOT_HELD)):
    every = [record(apart) for _ in uci.SETS]
    assert claims.of_uci(every).verdict == verdict
    partly = claims.of_uci(every[1:])
    assert partly.verdict == claims.PARTLY_RUN and partly.number.endswith('of 8 sets (1 not run)')


@pytest.mark.parametrize(
  'ensemble, verdict', [(0.2, claims.UNDECIDED), (0.8, claims.HELD), (None, claims.HELD)]
)
def test_foreign_inputs_that_the_ensemble_does_not_detect_decide_nothing(ensemble, verdict):
  metric, records = 'ood/far/auroc_total', sweeps.sweep()
  for record in records:
    for row in record['rows']:
      if row['role'] != 'ensemble':
        row['metrics'] = row['metrics'] | {metric: -row['metrics']['nll']}
      elif ensemble:
        row['metrics'] = row['metrics'] | {metric: ensemble}
  found = claims.outcome(claim(metric=metric, better='higher'), records)
  assert found.verdict == verdict
  assert found.number.startswith('the ensemble has 0.20' if ensemble == 0.2 else '+0.1000 ±')


def test_the_share_of_the_diversity_that_is_kept():
  records = []
  for t in range(3):
    for epochs, kept in ((5, 0.5 + 0.01 * t), (40, 0.1)):
      settings = {'teacher.epochs': epochs}
      made = sweeps.record('be_kd', t, 0, 0.6, settings=settings, ensemble=f'e{epochs}')
      for row, value in zip(made['rows'], (0.0, 1.0 + t, kept * (1 + t))):
        row['metrics'] |= {'pairwise_kl': value, 'train/pairwise_kl': value, 'train/acc': 0.99}
      records.append(made)
  text = small_tables.levels(records)
  assert '| 40 epochs | 99.0 | 10.0 % ± 0.0 % | 10.0 % ± 0.0 % |' in text
  assert '| 5 epochs | 99.0 | 51.0 % ± 0.6 % | 51.0 % ± 0.6 % |' in text
  found = claims.outcome(claims.LEVELS, records)
  assert found.verdict == claims.HELD and found.number == '+0.4100 ± 0.0058 (3 × 1)'
  assert claims.outcome(claims.LEVELS, records[:1]).verdict == claims.NOT_TESTED


def test_the_grid():
  assert grid.table([]).startswith(sections.NOT_RUN)
  records = []
  for t in range(2):
    for move in ('none', 'tdiv'):
      made = sweeps.record('kd', t, 0, 0.6 + t + 0.1 * (move == 'none'), settings={
        'perturb.name': move})  # fmt: skip
      records.append(made)
  text = grid.table(records)
  assert '| single, mean | 60 ± 0 | - | - | - | 80 ± 0* | - |' in text
  assert 'Best unpublished points: kd (perturb.name=tdiv): 80 ± 0 %' in text


def test_the_best_points_are_run_again_against_the_published_ones():
  nll = {
    ('kd', '', 'none'): 0.8, ('kd', '', 'tdiv'): 0.6, ('end2', '', 'none'): 0.9,
    ('hydra', 'members', 'none'): 0.7, ('hydra', 'members', 'ods'): 0.55,
    ('be_kd', 'members', 'ods'): 0.75, ('be_kd', 'members', 'conf_ods'): 0.72,
    ('latentbe', 'members', 'none'): 0.85, ('latentbe', 'mean', 'tdiv'): 0.65,
  }  # fmt: skip
  records = []
  for (method, objective, move), value in nll.items():
    settings = {'perturb.name': move} | ({'objective.name': objective} if objective else {})
    records += [sweeps.record(method, t, 0, value + t, settings=settings) for t in range(2)]
  found = grid_run.final(records)
  assert [label for plan in found for label in plan.labels()] == [
    'hydra (perturb.name=ods, objective.name=members)',
    'kd (perturb.name=tdiv)',
    'kd (perturb.name=none)',
    'end2 (perturb.name=none)',
    'hydra (perturb.name=none, objective.name=members)',
    'be_kd (perturb.name=conf_ods, objective.name=members)',
    'latentbe (perturb.name=none, objective.name=members)',
  ]
  assert {(plan.folder, plan.teachers, plan.seeds) for plan in found} == {('cifar_small', 3, 3)}


def test_pictures_show_every_value(tmp_path):
  found = [
    pictures.Point(f'a<{i}', Estimate(i, 0.1, 3, 6), Estimate(-(i**3), None, 1, 1))
    for i in range(1, 41)
  ]
  drawn = {
    'points': pictures.points(found, 'x', 'y'),
    'lines': pictures.lines(
      {'one': [(1, 0.5), (10, 0.6)], 'two': [(1, 0.4), (100, 0.4)]}, 'x', 'y'
    ),
    'heat': pictures.heat(
      {'row': {'a': Estimate(0.5, 0.1, 3, 6), 'b': Estimate(-129.0, 9.0, 3, 6)}}, ['a', 'b', 'c']
    ),
  }
  for name, text in drawn.items():
    root = ElementTree.fromstring(text)
    assert root.tag.endswith('svg'), name
    assert 'nan' not in text and 'inf' not in text
  places = [float(x) for x in re.findall(r'y="([\d.]+)"[^>]*>a&lt;', drawn['points'])]
  assert len(places) == 40 and np.diff(sorted(places)).min() >= 14.9  # no label covers another
  assert drawn['points'].count('<circle') == 40 and 'a&lt;1' in drawn['points']
  assert drawn['lines'].count('<polyline') == 2 and '50 ± 10' in drawn['heat']
  assert all(f'>{number}<' in drawn['lines'] for number in (0.4, 0.45, 0.6, 1, 20, 100))
  assert '&lt; -100<' in drawn['heat'] and '129' not in drawn['heat']


def of_full(acc):
  made = sweeps.record('single', 0, 0, 0.3, data='cifar10', variant='common')
  made['rows'][0]['metrics']['acc'] = acc
  return made


def test_no_distilled_number_is_shown_before_the_gate(tmp_path):
  results = tmp_path / 'results'
  results.mkdir()

  def text():
    (content,) = full_tables.files(tmp_path, results).values()
    return content['full']

  assert 'has not run' in text() and not gate.passed([])
  for acc, shown in ((0.9, False), (0.9331, False), (0.9253, True)):
    (results / 'single.json').write_text(json.dumps(of_full(acc)))
    assert gate.passed(sections.read(results)) is shown
    assert ('| single |' in text()) is shown and ('not passed' in text()) is not shown


def test_the_reader_of_an_experiments_output_may_end():
  command = [sys.executable, '-m', 'experiments.digits.run', '--status']
  with subprocess.Popen(
    command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
  ) as script:
    script.stdout.close()
    assert script.stderr.read() == '' and script.wait() == 1


def test_the_stages_stop_at_the_gate(tmp_path, monkeypatch, capsys):
  begun = []
  monkeypatch.setattr(full.plans, 'run', lambda plan, options, out: begun.append(options) or 0)
  arguments = ['--data=here', f'--out={tmp_path}', '--slice-seconds=100', '--parallel=2']
  assert full.main(arguments) == 1 and len(begun) == 1
  assert '92.87 ± 0.4 %' in capsys.readouterr().err
  assert begun[0][0] == '--config.data.dir=here' and begun[0][2] == '--parallel=2'
  (tmp_path / 'results').mkdir()
  (tmp_path / 'results' / 'single.json').write_text(json.dumps(of_full(0.93)))
  assert full.main(arguments) == 0 and len(begun) == 1 + len(full.STAGES)
  monkeypatch.setattr(full.plans, 'run', lambda plan, options, out: 75)
  assert full.main(arguments) == 75


def test_every_stage_of_the_full_protocol_is_a_sweep():
  for plan in full.STAGES.values():
    variant = plan.data.partition(':')[2]
    assert plan.methods
    for method in plan.methods:
      assert models.data_title({'data': 'a', 'variant': variant, 'settings': {}})
      full.recipes.make(method, *plan.data.split(':'))
