"""The comparison: its rows, what was not at hand, gaps, and that every set sees the same models."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pictures
import pytest
import tiny

from ensdistill import compare, data, metrics, predictive
from ensdistill.config import inputs
from ensdistill.evaluation import gaps, measure, rows, sets
from ensdistill.logs import writers
from ensdistill.members import take


@pytest.fixture(scope='module')
def compared():
  config = tiny.config(
    seeds=2,
    student__kind='batch_ensemble',
    student__factors='normal',
    evaluate__ood='digits_inverted,notmnist',
    evaluate__shift='contrast,tfds:tiny_corrupted/fog_3',
    evaluate__shift_examples=10,
    evaluate__batch_size=20,
    evaluate__train=True,
    data__dir='/nowhere',
  )
  dataset = tiny.dataset()
  plan = tiny.plan(config, dataset)
  models = tiny.untrained(plan)
  found = compare.compare(plan, *models, writers.Silent())
  return dataset, *models, found


def test_rows_are_all_models_in_order(compared):
  *_, found = compared
  names = [row['name'] for row in found.rows]
  assert names == ['member', 'ensemble-2', 'ensemble-3', 'student', 'student-averaged']
  assert [row['seeds'] for row in found.rows] == [3, 1, 1, 2, 2]
  for row in found.rows:
    assert {'acc', 'nll', 'ece', 'ood/digits_inverted/auroc_total', 'params'} <= set(row['metrics'])
    assert {f'shift/contrast/{s}/acc' for s in range(1, 6)} <= set(row['metrics'])
    assert ('agreement_kl' in row['metrics']) == row['name'].startswith('student')
    assert all((error is None) == (row['seeds'] == 1) for error in row['se'].values())
  member, *_, whole, student, averaged = (row['metrics'] for row in found.rows)
  assert whole['params'] == 3 * member['params'] and averaged['params'] == member['params']
  assert all(key in averaged for key in ('flops', 'ms_per_example', 'dee'))
  time = 'ms_per_example'  # of equal architectures it is one measurement
  assert member[time] == averaged[time] != student[time]
  assert all(row[f'{time}/spread'] >= 0 for row in (member, student, averaged))


def test_a_row_is_the_mean_over_what_was_trained(compared):
  dataset, ensemble, _, found = compared
  outputs = np.asarray(ensemble.freeze(ensemble.variables).outputs(jnp.asarray(dataset.test.x)))
  log_probs_BMK = jax.nn.log_softmax(outputs)
  each = [metrics.nll(log_probs_BMK[:, m], dataset.test.y) for m in range(3)]
  row = found.rows[0]
  assert row['metrics']['nll'] == pytest.approx(np.mean(each), rel=1e-5)
  assert row['se']['nll'] == pytest.approx(np.std(each, ddof=1) / 3**0.5, rel=1e-3)
  mixture = predictive.Mixture(log_probs_BMK)
  nll = metrics.nll(mixture.log_probs(), dataset.test.y)
  assert found.rows[2]['metrics']['nll'] == pytest.approx(nll, rel=1e-5)


def test_an_ensemble_of_some_members_is_an_average_over_its_subsets(compared):
  dataset, ensemble, _, found = compared
  outputs = np.asarray(ensemble.freeze(ensemble.variables).outputs(jnp.asarray(dataset.test.x)))
  log_probs_BMK = jax.nn.log_softmax(outputs)
  pairs = [predictive.Mixture(log_probs_BMK[:, i]) for i in ([0, 1], [0, 2], [1, 2])]
  row, nll = found.rows[1], [metrics.nll(p.log_probs(), dataset.test.y) for p in pairs]
  assert row['metrics']['nll'] == pytest.approx(np.mean(nll), rel=1e-5)
  assert row['spread']['nll'] == pytest.approx(np.std(nll, ddof=1), rel=1e-3)
  knowledge = [float(p.knowledge().mean()) for p in pairs]
  assert row['metrics']['knowledge'] == pytest.approx(np.mean(knowledge), rel=1e-4)
  assert row['subsets'] == 3 and not found.models[1].repeats
  teachers = found.rows[:3]
  curve = [r['metrics']['cnll'] for r in teachers]
  each = [measure.sets(dataset, r, ensemble=found.models[2].repeats[0], curve=curve)['dee']
          for r in found.models[3].repeats]  # fmt: skip
  assert found.rows[3]['metrics']['dee'] == pytest.approx(np.mean(each))


def test_every_row_has_its_error_from_the_test_examples(compared):
  dataset, _, _, found = compared
  right = np.mean([np.asarray(p['test'].log_probs()).argmax(-1) == dataset.test.y
                   for p in found.models[0].repeats], 0)  # fmt: skip
  assert found.rows[0]['test_se']['acc'] == pytest.approx(right.std(ddof=1) / len(right) ** 0.5)
  assert all(row['test_se']['acc'] >= 0 for row in found.rows)
  assert 'shift/mean/3/acc' in found.rows[3]['test_se']
  paired = [sorted(row.get('paired', {})) for row in found.rows]
  assert paired[2:] == [['member'], ['ensemble-3', 'member'], ['ensemble-3', 'member', 'student']]


def test_shifted_sets_are_scored_like_the_test_set(compared):
  dataset, ensemble, _, found = compared
  inputs = list(sets.shifted(dataset, 'contrast', {}, examples=10))
  assert [(s.kind, s.severity, len(s.x)) for s in inputs] == [
    ('contrast', severity, 10) for severity in range(1, 6)
  ]
  x, y = inputs[3].x, inputs[3].y
  outputs = ensemble.freeze(ensemble.variables).outputs(jnp.asarray(x))
  mixture = predictive.Mixture(np.asarray(jax.nn.log_softmax(outputs)))
  full = metrics.summary.classification_metrics(metrics.summary.examples(mixture, y))
  for key in ('acc', 'nll', 'ece', 'knowledge'):
    assert found.rows[2]['metrics'][f'shift/contrast/4/{key}'] == pytest.approx(
      full[key], rel=1e-4, abs=1e-6
    )
    assert (
      found.rows[2]['metrics'][f'shift/mean/4/{key}']
      == found.rows[2]['metrics'][f'shift/contrast/4/{key}']
    )


def test_training_inputs_are_scored_over_blocks(compared):
  dataset, ensemble, distilled, found = compared
  x, y = dataset.train
  assert len(x) % 20  # the last block is smaller
  outputs = np.asarray(ensemble.freeze(ensemble.variables).outputs(jnp.asarray(x)))
  log_probs_BMK = np.asarray(jax.nn.log_softmax(outputs))
  rows = {row['name']: row for row in found.rows}
  log_probs_BK = predictive.Mixture(log_probs_BMK).log_probs()
  expected = {
    'train/acc': metrics.accuracy(log_probs_BK, y),
    'train/nll': metrics.nll(log_probs_BK, y),
    'train/pairwise_kl': metrics.pairwise_kl(log_probs_BMK),
  }
  for key, value in expected.items():
    assert rows['ensemble-3']['metrics'][key] == pytest.approx(value, rel=1e-5)
  each = [metrics.nll(log_probs_BMK[:, m], y) for m in range(3)]
  assert rows['member']['metrics']['train/nll'] == pytest.approx(np.mean(each), rel=1e-5)
  assert rows['member']['se']['train/nll'] == pytest.approx(np.std(each, ddof=1) / 3**0.5, rel=1e-3)
  assert rows['member']['metrics']['train/pairwise_kl'] == 0
  module = distilled.method.student.module
  kls = [
    metrics.pairwise_kl(jax.nn.log_softmax(module.apply(take(distilled.variables, seed), x)))
    for seed in range(2)
  ]
  assert rows['student']['metrics']['train/pairwise_kl'] == pytest.approx(np.mean(kls), rel=1e-4)
  assert rows['student-averaged']['metrics']['train/pairwise_kl'] == 0
  assert not any('gap_closed/train' in key for row in found.rows for key in row['metrics'])


def test_what_is_not_at_hand_is_named(compared):
  *_, found = compared
  assert set(found.not_run) == {'ood/notmnist', 'shift/tfds:tiny_corrupted/fog_3'}
  assert "'notmnist' is not prepared" in found.not_run['ood/notmnist']
  assert not any('notmnist' in key for row in found.rows for key in row['metrics'])


def test_names_are_checked_before_training():
  dataset, table = tiny.dataset(), tiny.dataset(shape=(6,))
  sets.check(dataset, ood='default', shifts='all')
  sets.check(table, ood='none', shifts='default')  # tables have no shifts of their own
  with pytest.raises(ValueError, match="'contrst': did you mean 'contrast'"):
    sets.check(dataset, ood='none', shifts='default,contrst')
  with pytest.raises(ValueError, match="unknown data set 'digit_inverted': did you mean"):
    sets.check(dataset, ood='digit_inverted', shifts='none')
  with pytest.raises(ValueError, match='must end in its severity'):
    sets.check(dataset, ood='none', shifts='tfds:cifar10_corrupted/fog')
  with pytest.raises(ValueError, match='holds tables'):
    sets.check(table, ood='none', shifts='contrast')


def test_stored_shifted_sets(tmp_path):
  dataset = tiny.dataset()
  x = np.random.default_rng(0).integers(0, 256, (7, 16, 16, 3), np.uint8)  # of another form
  y = np.arange(7) % 3
  np.savez(tmp_path / 'fog_3.npz', x_test=x, y_test=y)
  np.savez(tmp_path / 'fog_4.npz', x_test=x, y_test=y + 1)
  not_run = {}
  wanted = ','.join(f'npz:{tmp_path}/fog_{s}.npz' for s in (3, 4))
  (found,) = sets.shifted(dataset, wanted, not_run, examples=5)
  assert (found.kind, found.severity, found.x.shape) == ('fog', 3, (5, 8, 8, 1))
  assert len(found.y) == 5
  (reason,) = not_run.values()
  assert 'has label 3, but tiny has 3 classes' in reason


def damaged(root, size=8):
  """A folder of images without classes, the third of which is damaged."""
  for number in range(size):
    pictures.write(root / f'{number}.png', pictures.colour(0, number))
  pictures.damage(root / '2.png')
  return f'folder:{root}'


@pytest.mark.parametrize('stream', ['off', 'on'])
def test_a_damaged_foreign_set_is_named_or_skipped(tmp_path, stream):
  """Also where it stays in its files, so that it is found to be damaged while it is read."""
  dataset, name = tiny.dataset(), damaged(tmp_path / 'photos')

  def predict(x, name):
    return float(np.mean(x[: len(x)]))

  def predicted(unreadable):
    inputs = sets.inputs(dataset, name, not_run, unreadable=unreadable, stream=stream)
    return sets.predicted(predict, inputs, not_run)

  not_run = {}
  assert set(predicted('stop')) == {'valid', 'test'}
  assert '2.png cannot be read as an image' in not_run.pop(f'ood/{name}')
  assert set(predicted('skip')) == {'valid', 'test', f'ood/{name}'} and not not_run


def test_settings_of_reading_reach_foreign_and_auxiliary_sets(tmp_path, monkeypatch):
  name = damaged(tmp_path / 'photos')
  settings = {'data__name': 'digits', 'data__limit': 60, 'data__aux': name}
  with pytest.raises(data.DataError, match='2.png cannot be read'):
    inputs.load_data(tiny.config(**settings))
  settings['data__unreadable'] = 'skip'
  joined = inputs.load_data(tiny.config(**settings))[1]
  assert len(joined.train.x) == 60 + 7
  settings |= {'evaluate__ood': name, 'data__stream_bytes': 100}
  given = {}
  monkeypatch.setattr(sets, 'inputs', lambda *a, **options: given.update(options) or 1 / 0)
  with pytest.raises(ZeroDivisionError):
    compare.compare(
      tiny.plan(tiny.config(**settings), tiny.dataset()), None, None, writers.Silent()
    )
  assert (given['unreadable'], given['stream_bytes'], given['stream']) == ('skip', 100, 'auto')


def test_a_collection_stands_for_its_prepared_forms(tmp_path):
  from data.sources.test_prepared import write

  dataset, random = tiny.dataset(), np.random.default_rng(0)
  wanted, where = 'contrast,tfds:tiny_corrupted', {'dir': str(tmp_path)}
  assert sets.shift_names(dataset, wanted, **where) == ['contrast', 'tfds:tiny_corrupted']
  for form in ('fog_2', 'fog_1', 'snow_1'):
    x = random.integers(0, 256, (6, 8, 8, 1), np.uint8)
    test = x, [0, 1, 2, 0, 1, 2]
    write(tmp_path, {'test': test}, name=f'tiny_corrupted/{form}', shape=(8, 8, 1), classes=3)
  (tmp_path / 'tiny_corrupted' / 'rain_1').mkdir()  # nothing in it
  names = [f'tfds:tiny_corrupted/{form}' for form in ('fog_1', 'fog_2', 'snow_1')]
  assert sets.shift_names(dataset, wanted, **where) == ['contrast', *names]
  sets.check(dataset, ood='none', shifts=wanted, **where)
  not_run = {}
  found = list(sets.shifted(dataset, 'tfds:tiny_corrupted', not_run, examples=4, **where))
  assert [(s.kind, s.severity, len(s.x)) for s in found] == [
    ('tiny_corrupted.fog', 1, 4), ('tiny_corrupted.fog', 2, 4), ('tiny_corrupted.snow', 1, 4)
  ]  # fmt: skip
  assert not not_run
  assert not list(sets.shifted(dataset, 'tfds:cifar10_corrupted', not_run, examples=4, **where))
  assert "builder_cls('cifar10_corrupted')" in not_run['shift/tfds:cifar10_corrupted']


def test_prepared_published_corruptions_are_the_default(tmp_path):
  from data.sources.test_prepared import write

  dataset, where = tiny.dataset(), {'dir': str(tmp_path)}
  cifar = dataclasses.replace(dataset, name='cifar10')
  assert sets.shift_names(cifar, 'default', **where) == list(sets.DEFAULT_SHIFTS)
  x = np.zeros((3, 8, 8, 1), np.uint8)
  for form in ('fog_1', 'snow_5'):
    name = f'cifar10_corrupted/{form}'
    write(tmp_path, {'test': (x, [0, 1, 2])}, name=name, shape=(8, 8, 1), classes=3)
  names = [f'tfds:cifar10_corrupted/{form}' for form in ('fog_1', 'snow_5')]
  assert sets.shift_names(cifar, 'default', **where) == names
  assert sets.shift_names(cifar, 'contrast,default', **where) == ['contrast', *names]
  assert sets.shift_names(dataset, 'default', **where) == list(sets.DEFAULT_SHIFTS)
  assert 'rotation' in sets.shift_names(cifar, 'all', **where)


def test_means_are_over_kinds_with_all_severities():
  assert sets._kind_and_severity('tfds:cifar10_corrupted/fog_3') == ('cifar10_corrupted.fog', 3)
  found = {
    f'shift/{kind}/{s}/acc': s * w for kind, w in (('a', 1.0), ('b', 3.0)) for s in range(1, 6)
  }
  means = measure.with_means(found | {'shift/cifar10_corrupted.fog/3/acc': 100.0})
  assert [means[f'shift/mean/{s}/acc'] for s in range(1, 6)] == [2, 4, 6, 8, 10]
  assert measure.with_means({}) == {}


def test_gaps_are_null_where_there_is_none():
  def row(name, se=None, **values):
    (found,) = rows.with_roles([{'name': name}])
    return found | {'seeds': 3, 'se': dict.fromkeys(values, se), 'metrics': values}

  member = row('member', 0.01, acc=0.90, nll=0.50, ece=0.1, prr=float('nan'))
  ensemble = row('ensemble-2', acc=0.95, nll=0.49, ece=0.1, prr=1.0)
  student = row('student', 0.005, acc=0.93, nll=0.40, ece=0.2, prr=1.0)
  gaps.add([member, row('ensemble-2', acc=0.0, nll=0.0), ensemble, student])
  found = student['metrics']
  assert found['gap_closed/acc'] == pytest.approx(0.6)  # of the largest ensemble
  assert student['se']['gap_closed/acc'] == pytest.approx(0.1)
  assert found['gap_closed/nll'] is None  # 0.01 is less than two standard errors
  assert found['gap_closed/ece'] is None and found['gap_closed/prr'] is None
  assert 'gap_closed/nll' not in student['se']
  assert not any('gap_closed' in key for key in ensemble['metrics'])


def test_a_gap_that_few_test_examples_cannot_show_is_none():
  def row(name, acc):
    (found,) = rows.with_roles([{'name': name}])
    return found | {'seeds': 3, 'se': {'acc': 0.001}, 'metrics': {'acc': acc}}

  for errors, closed in (({'acc': 0.02}, 0.5), ({'acc': 0.03}, None), ({}, 0.5)):
    found = [row('member', 0.90), row('ensemble-2', 0.95), row('student', 0.925)]
    gaps.add(found, errors)
    assert found[-1]['metrics']['gap_closed/acc'] == pytest.approx(closed)


def test_the_test_sets_error_is_that_of_the_same_examples(compared):
  """As the comparison finds it, from the networks' own predictions."""
  dataset, _, _, found = compared

  def is_right(p):
    return np.asarray(p['test'].log_probs()).argmax(-1) == dataset.test.y

  member = np.mean([is_right(p) for p in found.models[0].repeats], 0)
  difference = member - is_right(found.models[2].repeats[0])
  expected = difference.std(ddof=1) / len(difference) ** 0.5
  assert found.rows[2]['paired']['member']['acc'] == pytest.approx(expected)
  values = [row['metrics']['acc'] for row in (found.rows[0], found.rows[2], found.rows[3])]
  settings = {'member_se': found.rows[0]['se']['acc'], 'test_se': expected}
  closed = found.rows[3]['metrics']['gap_closed/acc']
  assert closed == gaps.closed(*values, **settings)


def test_regression_is_measured_in_the_targets_units():
  random = np.random.default_rng(0)
  x, y = random.random((30, 4), np.float32), 100 + 20 * random.random((30, 1), np.float32)
  split = data.Split(x, y)
  dataset = tiny.replace(
    tiny.dataset(),
    **dict.fromkeys(('train', 'valid', 'test'), split),
    targets=1,
    family='gaussian',
    mean=(0.5,) * 4,
    std=(0.3,) * 4,
    target_mean=(110.0,),
    target_std=(6.0,),
  )
  config = tiny.config(teacher__members=2, evaluate__shift='default', evaluate__train=True)
  plan = tiny.plan(config, dataset)
  found = compare.compare(plan, *tiny.untrained(plan), writers.Silent())
  mean = np.asarray(found.models[0].repeats[0]['test'].mean())
  rmse = [np.sqrt(((p['test'].mean() - y) ** 2).mean()) for p in found.models[0].repeats]
  assert 90 < mean.mean() < 130
  assert found.rows[0]['metrics']['rmse'] == pytest.approx(np.mean(rmse), rel=1e-4)
  for row in found.rows:  # the training part is the test part here
    for key in ('rmse', 'nll', 'knowledge'):
      assert row['metrics'][f'train/{key}'] == pytest.approx(row['metrics'][key], rel=1e-6)
