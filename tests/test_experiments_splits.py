"""All splits in one program: each network is the one that a run of its split alone trains."""

import jax
import numpy as np
import pytest
import tiny

from ensdistill import data, distillation, teacher
from ensdistill.evaluation import measure, rows, sets
from ensdistill.families import gaussian
from ensdistill.logs import writers
from experiments.hydra import splits

QUIET = writers.Silent()
SMALL = dict(
  data__name='diabetes',
  data__limit=40,
  teacher__members=2,
  teacher__optimizer__name='adam',
  teacher__optimizer__rate=1e-2,
  student__optimizer__name='adam',
  student__optimizer__rate=1e-2,
)


def config(**changes):
  return tiny.config(**SMALL | changes)


@pytest.fixture(scope='module')
def stored():
  return splits.load(config(), range(2))


@pytest.fixture(scope='module')
def datasets(stored):
  return [splits.standardised(dataset) for dataset in stored]


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  return tmp_path_factory.mktemp('splits')


@pytest.fixture(scope='module')
def ensembles(datasets, folder):
  return splits.teachers(splits.plan(config(), datasets, folder), datasets, QUIET)


def alone(datasets, folder, **changes):
  """Return the plan of a run of the second split alone, and its teacher."""
  own = config(seed=1, data__split=1, teacher__dir=str(folder / 'alone'), **changes)
  plan = tiny.plan(own, datasets[1], folder / 'run')
  return plan, teacher.obtain(plan, QUIET)


def test_inputs_are_in_standard_deviations_of_their_training_split(datasets):
  raw = data.load('diabetes', split=1, seed=1, limit=40)
  for part in ('train', 'valid', 'test'):
    x, y = getattr(datasets[1], part)
    np.testing.assert_allclose(x, (getattr(raw, part).x - raw.mean) / raw.std, atol=1e-5)
    np.testing.assert_array_equal(y, getattr(raw, part).y)
  np.testing.assert_allclose(datasets[1].train.x.std(0), 1, rtol=1e-4)
  assert datasets[1].mean == (0.0,) * 10 and datasets[1].space.unit.tolist() == [1.0] * 10
  assert (datasets[0].train.x != datasets[1].train.x).any()


def test_foreign_inputs_are_in_the_same_units(stored, tmp_path):
  """Other sets of the data folder too; what is not at hand is said."""
  x = np.random.default_rng(0).normal(100, 5, (20, 10)).astype(np.float32)
  np.savez(tmp_path / 'other.npz', x_test=x)
  settings, not_run = config(evaluate__ood='other,absent', data__dir=str(tmp_path)), {}
  for dataset, found in zip(stored, splits.evaluated(settings, stored, not_run)):
    raw = sets.inputs(
      dataset, 'other', {}, dir=str(tmp_path), seed=0 if dataset is stored[0] else 1
    )
    expected = (raw['ood/other'] - np.array(dataset.mean)) / dataset.std
    np.testing.assert_allclose(found['ood/other'], expected, rtol=1e-5)
    np.testing.assert_allclose(found['test'], splits.standardised(dataset).test.x)
  assert list(not_run) == ['ood/absent']


def test_settings_reach_the_data_or_are_refused():
  toy = dict(data__name='toy1d', data__size=37, data__limit=0)
  assert len(splits.load(config(**toy), [0])[0].train.x) == 37
  train = dict(evaluate__train=True)
  for change in (dict(seeds=2), dict(data__aux='toy1d'), dict(augment__flip=True), train):
    with pytest.raises(ValueError, match='has no effect on splits'):
      splits.load(config(**change), [0])
  with pytest.raises(ValueError, match='student.steps'):
    splits.plan(config(student__epochs=1), splits.load(config(), [0]), 'unused')


def test_teachers_equal_those_of_separate_runs(datasets, folder, ensembles):
  _, own = alone(datasets, folder)
  assert jax.tree.leaves(ensembles.variables)[0].shape[:2] == (2, 2)
  together = jax.tree.map(lambda leaf: leaf[1], ensembles.variables)
  assert tiny.largest_difference(together, own.variables) < 1e-5


@pytest.mark.slow
def test_students_equal_those_of_separate_runs(datasets, folder, ensembles, tmp_path):
  """In both phases; and on inputs that stay what they are, stored targets change nothing."""
  changes = dict(student__kind='multi_head', student__phases=2, objective__name='members')
  joint = splits.plan(config(**changes), datasets, tmp_path / 'joint')
  found = splits.students(joint, datasets, ensembles, QUIET)
  plan, own = alone(datasets, tmp_path, student__targets='stored', **changes)
  separate = distillation.distil(plan, own, QUIET)
  settings = plan.config
  together = jax.tree.map(lambda leaf: leaf[1:2], found.variables)
  assert tiny.largest_difference(together, separate.variables) < 1e-5
  other = jax.tree.map(lambda leaf: leaf[:1], found.variables)
  assert tiny.largest_difference(other, separate.variables) > 1e-2
  stored = splits.targets(settings, datasets, ensembles)
  assert stored.shape == (2, 40, 2, 2)
  np.testing.assert_allclose(
    stored[1], own.outputs_on(datasets[1], settings.evaluate, QUIET), atol=1e-5
  )


def test_a_stage_that_is_done_is_not_done_again(datasets, folder, ensembles):
  class Lines(writers.Silent):
    def line(self, text):
      said.append(text)

  said = []
  again = splits.teachers(splits.plan(config(), datasets, folder), datasets, Lines())
  assert tiny.largest_difference(again.variables, ensembles.variables) == 0
  assert said == ['teacher: already finished']


def test_rows_are_means_over_splits_in_the_targets_units(stored, datasets, ensembles):
  settings = config(evaluate__ood='default')
  seen = splits.predict(settings, datasets, splits.evaluated(settings, stored, {}), ensembles)
  assert set(seen[0]) == {'valid', 'test', 'ood/outside'}
  outputs = ensembles.freeze(jax.tree.map(lambda a: a[1], ensembles.variables)).outputs(
    datasets[1].test.x
  )
  mean, _ = gaussian.split(outputs)
  expected = np.asarray(mean) * datasets[1].target_std + np.asarray(datasets[1].target_mean)
  np.testing.assert_allclose(seen[1]['test'].mean_BMD, expected, rtol=1e-5)
  member = rows.of_repeats('member', splits.member_scores(datasets, seen), {})
  rmse = []
  for dataset, p in zip(datasets, seen):
    error = np.asarray(p['test'].mean_BMD) - dataset.test.y[:, None]
    rmse.append(np.sqrt((error**2).mean((0, 2))).mean())
  np.testing.assert_allclose(member['metrics']['rmse'], np.mean(rmse), rtol=1e-5)
  np.testing.assert_allclose(member['se']['rmse'], np.std(rmse, ddof=1) / 2**0.5, rtol=1e-4)
  student = rows.of_repeats('student', splits.scores(datasets, seen, seen), {})
  own = rows.of_repeats(
    'student', [measure.sets(*pair, ensemble=pair[1]) for pair in zip(datasets, seen)], {}
  )
  assert student == own and student['metrics']['agreement_kl'] < 1e-9


def test_what_cannot_be_trained_together_is_refused(datasets):
  with pytest.raises(ValueError, match='tiny holds images: splits of tables'):
    splits.standardised(tiny.dataset())
  shorter = datasets[1].train
  uneven = tiny.replace(datasets[1], train=data.Split(shorter.x[1:], shorter.y[1:]))
  with pytest.raises(ValueError, match=r'splits differ in their train examples \(39 to 40\)'):
    uneven = [datasets[0], uneven]
    splits.teachers(splits.plan(config(), uneven, 'unused'), uneven, QUIET)
