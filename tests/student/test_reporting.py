"""The report of a student on arrays."""

import json

import jax.numpy as jnp
import numpy as np
import pytest

import ensdistill
from ensdistill import report
from ensdistill.data import DataError
from ensdistill.report.runs import by_data
from ensdistill.storage import seals
from ensdistill.student import reporting

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(240, 2)).astype(np.float32)
Y = (X[:, 0] * X[:, 1] > 0).astype(np.int64)
SCALES = np.array([0.5, 1.0, 2.0], np.float32)
QUICK = dict(network='mlp', network_settings={'hidden': (16,)}, steps=60, quiet=True)
ALL = ['member', 'ensemble-2', 'ensemble-3', 'student']


def apply(scale, x):
  return jnp.stack([-scale * x[:, 0] * x[:, 1], scale * x[:, 0] * x[:, 1]], 1) * 4


LOGITS = np.stack([np.asarray(apply(s, X)) for s in SCALES], 1)


def names(results):
  return [row['name'] for row in results['rows']]


@pytest.fixture(scope='module')
def student():
  """A student of functions, whose classes and columns have names."""
  rows = [{'a': float(a), 'b': float(b)} for a, b in X]
  return ensdistill.distil((apply, SCALES), rows, np.array(['no', 'yes'])[Y], **QUICK)


def test_the_ensemble_of_the_same_call_is_reported(student, tmp_path):
  results = student.report(X, np.array(['no', 'yes'])[Y], tmp_path)
  assert names(results) == ALL and results['not_run'] == {}
  probs = student.predict(X).probs
  metrics = results['rows'][-1]['metrics']
  np.testing.assert_allclose(metrics['acc'], (probs.argmax(1) == Y).mean())
  np.testing.assert_allclose(metrics['nll'], -np.log(probs[range(240), Y]).mean(), rtol=1e-5)
  assert metrics['cnll'] and 'gap_closed/nll' in metrics
  assert json.loads((tmp_path / 'results.json').read_text())['rows'] == results['rows']
  page = (tmp_path / 'report.html').read_text()
  assert results['pictures'] and page.count('<figure>') == len(results['pictures'])
  (run,) = report.read_runs([tmp_path])
  assert run.config['data']['name'].startswith('arrays:') and run.config['name'] == 'hydra'
  assert 'python -m ensdistill.evaluate' in page and 'train and evaluate again' not in page
  again = ensdistill.load(tmp_path / 'student')
  np.testing.assert_array_equal(again.predict(X).probs, probs)


def test_outputs_or_functions_can_be_passed(student, tmp_path):
  student.save(tmp_path / 'student')
  loaded = ensdistill.load(tmp_path / 'student')
  alone = loaded.report(X, Y, tmp_path / 'alone')
  given = loaded.report(X, Y, tmp_path / 'outputs', teacher=LOGITS)
  called = loaded.report(X, Y, tmp_path / 'functions', teacher=(apply, SCALES))
  assert names(alone) == ['student'] and names(given) == names(called) == ALL
  assert 'no validation examples' in alone['not_run']['calibrated metrics']
  for one in (alone, given, called):
    assert one['rows'][-1]['metrics']['nll'] == pytest.approx(alone['rows'][0]['metrics']['nll'])
  nll = [one['rows'][2]['metrics']['nll'] for one in (given, called)]
  assert nll[0] == pytest.approx(nll[1], rel=1e-5)
  runs = report.read_runs([tmp_path / name for name in ('alone', 'outputs')])
  loaded.report(X[:50], Y[:50], tmp_path / 'fewer')
  runs += report.read_runs([tmp_path / 'fewer'])
  assert [len(group) for group in by_data(runs).values()] == [
    2,
    1,
  ]  # one table for each set of data
  settings = json.loads((tmp_path / 'outputs/config.json').read_text())
  assert settings['network']['name'] == 'mlp' and settings['student']['steps'] == 60


@pytest.mark.slow
def test_a_student_of_outputs_keeps_those_for_validation(tmp_path):
  student = ensdistill.distil(LOGITS, X, Y, method='kd', **QUICK)
  alone = student.report(X, Y, tmp_path / 'alone')
  assert names(alone) == ['student'] and alone['rows'][0]['metrics']['cnll']
  assert alone['not_run']['member and ensemble on test']
  given = student.report(X, Y, tmp_path / 'outputs', teacher=LOGITS)
  assert names(given) == ALL and all(row['metrics']['cnll'] for row in given['rows'])


@pytest.mark.slow
def test_regression_and_an_ensemble_of_its_own(tmp_path):
  y = 1000 + 50 * X[:, 0]
  student = ensdistill.distil(2, X, y, **QUICK)
  results = student.report(X, y, tmp_path)
  assert names(results) == ['member', 'ensemble-2', 'student']
  error = np.sqrt(((student.predict(X).mean[:, 0] - y) ** 2).mean())
  np.testing.assert_allclose(results['rows'][-1]['metrics']['rmse'], error, rtol=1e-4)
  assert student.members(X[:3]).shape == (3, 2, 1)


def test_the_folder_of_a_run_is_refused(student, tmp_path):
  seals.write_json(tmp_path / 'config.json', {'data': {'name': 'digits'}})
  with pytest.raises(ValueError, match='holds a run on digits: choose another folder'):
    student.report(X, Y, tmp_path)
  for content in (b'{', b'', b'\xff', b'[1]', b'{"data": {"name": 3}}'):
    (tmp_path / 'config.json').write_bytes(content)
    with pytest.raises(ValueError, match='a config.json that is not of a report: choose another'):
      student.report(X, Y, tmp_path)


def test_outputs_at_chance_are_accepted_on_demand(student, tmp_path):
  with pytest.raises(DataError, match='If they are right, pass check_order=False'):
    student.report(X, Y, tmp_path / 'refused', teacher=LOGITS[::-1])
  results = student.report(X, Y, tmp_path / 'taken', teacher=LOGITS[::-1], check_order=False)
  assert results['rows'][0]['metrics']['acc'] < 0.6


@pytest.mark.parametrize(
  ('call', 'words'),
  [
    (dict(y=Y[:-1]), r'y has shape \[239\] for 240 examples'),
    (dict(y=Y + 1), 'y must hold labels from 0 to 1'),
    (dict(y=Y * 1.0), 'y must hold labels from 0 to 1'),
    (dict(y=np.array(['no', 'maybe'])[Y]), r"y has \['maybe'\]: give names of \['no', 'yes'\]"),
    (dict(x=X * np.nan), 'holds NaN'),
    (dict(x=[], y=[]), 'for 0 examples'),
    (dict(teacher=LOGITS[:-1]), 'teacher=: 239 rows of outputs for 240 examples'),
    (dict(teacher=LOGITS[:, 0]), r'store floats \[N, M, 2\]'),
    (dict(teacher=LOGITS[::-1]), 'every member is at chance on test'),
    (dict(teacher=lambda x: x), 'the function returned shape'),
  ],
)
def test_mistakes_are_named(student, call, words, tmp_path):
  given = {'x': X, 'y': Y, **call}
  with pytest.raises((ValueError, DataError), match=words):
    student.report(given.pop('x'), given.pop('y'), tmp_path, **given)
  assert not (tmp_path / 'results.json').exists()


def test_targets_of_regression_are_checked(unnamed):
  for y in (np.full(3, np.nan), np.zeros((3, 2)), np.array(['a'] * 3)):
    with pytest.raises(ValueError, match=r'y must hold finite numbers \[N, 1\]'):
      reporting.targets(unnamed, y, 3)
