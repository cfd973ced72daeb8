"""Calibration: temperature, conformal sets and quantiles, abstention; and what is refused."""

import dataclasses
import json
import math

import numpy as np
import pytest
import tiny

from ensdistill import data, export, metrics, predictive
from ensdistill.metrics import regression
from ensdistill.student import calibration
from ensdistill.student.calibration import LEVELS, Basis, Calibration
from ensdistill.student.model import Model


def classifier(size, classes=5, seed=0, sharpness=4.0):
  """Log-probabilities that are too confident, and labels drawn from softer ones."""
  random = np.random.default_rng(seed)
  logits_BK = random.normal(size=(size, classes))

  def log_softmax(z):
    return z - np.log(np.exp(z).sum(-1, keepdims=True))

  probs_BK = np.exp(log_softmax(2 * logits_BK))
  labels_B = np.array([random.choice(classes, p=p) for p in probs_BK])
  return log_softmax(sharpness * logits_BK).astype(np.float32), labels_B


def regressor(size, seed=0, factor=0.5):
  """A mixture of two members whose deviations are `factor` times the right ones, and targets."""
  random = np.random.default_rng(seed)
  mean_B1D = random.normal(size=(size, 1, 2))
  std_B1D = np.exp(random.normal(size=(size, 1, 2)))
  mean_BMD = np.concatenate([mean_B1D, mean_B1D + 0.1], 1)
  y_BD = mean_B1D[:, 0] + std_B1D[:, 0] * random.normal(size=(size, 2))
  log_var_BMD = np.repeat(2 * np.log(factor * std_B1D), 2, 1)
  mixture = predictive.GaussianMixture(np.float32(mean_BMD), np.float32(log_var_BMD))
  return regression.host(mixture), y_BD


def basis_of(found=None, **values):
  return Basis(found, calibration.UNKNOWN, **values)


def fitted(log_probs, labels):
  total = -(np.exp(log_probs) * log_probs).sum(-1)
  return calibration.fit(basis_of(log_probs=log_probs), total, labels), total


def test_every_level_has_its_mirror_image():
  assert list(LEVELS) == sorted(set(LEVELS))
  np.testing.assert_allclose(LEVELS, 1 - np.array(LEVELS[::-1]), atol=1e-15)
  assert calibration._next(0.9, 'q') == LEVELS.index(0.9)
  assert LEVELS[calibration._next(1 - 0.05, 'q')] == 0.95
  assert LEVELS[calibration._next(0.901, 'q')] == 0.91 and calibration._next(0.9995, 'q') is None
  assert (
    LEVELS[calibration._mirrored(0.05)] == 0.05 and LEVELS[calibration._mirrored(0.059)] == 0.05
  )


def test_temperature_equals_scaling_by_hand():
  log_probs, labels = classifier(800)
  found, _ = fitted(log_probs, labels)
  assert 1.5 < found.temperature < 2.7  # they are twice too sharp
  other = classifier(50, seed=1)[0].astype(np.float64)
  by_hand = np.exp(other / found.temperature)
  by_hand /= by_hand.sum(-1, keepdims=True)
  probs = calibration.apply_temperature(basis_of(found, log_probs=other))
  np.testing.assert_allclose(probs, by_hand, atol=1e-6)


@pytest.mark.parametrize('kind', calibration.KINDS)
@pytest.mark.parametrize('coverage', [0.5, 0.9, 0.99])
def test_sets_are_those_of_the_metrics_and_cover(kind, coverage):
  log_probs, labels = classifier(1000)
  found, _ = fitted(log_probs, labels)
  test, y = classifier(4000, seed=1)
  member_BK = calibration.sets(basis_of(found, log_probs=test), coverage, kind)
  at_most = metrics.conformal_threshold(log_probs, labels, coverage, kind)
  size_B, covered_B = metrics.conformal_sets(test, y, at_most, kind)
  np.testing.assert_array_equal(member_BK.sum(1), size_B)
  np.testing.assert_array_equal(member_BK[np.arange(len(y)), y], covered_B)
  error = math.sqrt(coverage * (1 - coverage) * (1 / 1000 + 1 / 4000))
  assert abs(covered_B.mean() - coverage) < 4 * error


def test_equal_probabilities_enter_by_the_index_of_the_class():
  log_probs = np.log(np.array([[0.25, 0.25, 0.25, 0.25], [0.1, 0.4, 0.4, 0.1]]))
  found = metrics.prediction_sets.members(log_probs, 0.5, 'aps')
  np.testing.assert_array_equal(found, [[1, 1, 0, 0], [0, 1, 0, 0]])


def test_few_examples_promise_nothing_that_they_cannot_hold():
  log_probs, labels = classifier(20)
  found, _ = fitted(log_probs, labels)
  basis = basis_of(found, log_probs=log_probs)
  assert calibration.sets(basis, 0.99).all() and not calibration.sets(basis, 0.9).all()
  assert calibration.sets(basis, 0.9999).all()


def test_abstention_exceeds_its_rate_on_few_new_examples():
  log_probs, labels = classifier(1000)
  found, total = fitted(log_probs, labels)
  for rate in (0.01, 0.05, 0.5):
    assert calibration.abstain(basis_of(found), total, rate).mean() <= rate
    new = fitted(*classifier(4000, seed=2))[1]
    share = calibration.abstain(basis_of(found), new, rate).mean()
    assert abs(share - rate) < 4 * math.sqrt(rate * (1 - rate) * (1 / 1000 + 1 / 4000))
  assert not calibration.abstain(basis_of(found), total, 1e-300).any()


def test_offsets_are_order_statistics():
  distribution, y = regressor(19)
  found = calibration.fit(basis_of(distribution=distribution), np.ones(19), y)
  deviation = np.sqrt(distribution.data() + distribution.knowledge())
  for level, rank in ((0.9, 18), (0.95, 19), (0.1, 2), (0.05, 1)):
    scores = np.sort((y - distribution.quantile(level)) / deviation, 0)
    own = [offsets[LEVELS.index(level)] for offsets in found.offsets]
    np.testing.assert_allclose(own, scores[rank - 1])
  assert found.offsets[0][-1] == math.inf and found.offsets[0][0] == -math.inf


def test_quantiles_cover_targets_where_the_mixture_is_too_narrow():
  distribution, y = regressor(1000)
  found = calibration.fit(basis_of(distribution=distribution), np.ones(1000), y)
  test, targets = regressor(4000, seed=1)
  basis, levels = basis_of(found, distribution=test), [0.95, 0.05, 0.5]
  high, low, middle = calibration.quantiles(basis, levels)
  assert (low <= middle).all() and (middle <= high).all()
  share = ((low <= targets) & (targets <= high)).mean()
  assert abs(share - 0.9) < 4 * math.sqrt(0.09 * (1 / 1000 + 1 / 4000))
  raw = (test.quantile(0.05) <= targets) & (targets <= test.quantile(0.95))
  assert raw.mean() < 0.7  # without calibration
  np.testing.assert_array_equal(calibration.quantiles(basis, 0.95), high)
  assert np.isposinf(calibration.quantiles(basis, 0.9999)).all()


def test_of_very_many_targets_some_are_used(monkeypatch):
  monkeypatch.setattr(calibration, 'MOST', 100)
  distribution, y = regressor(250)
  found = calibration.fit(basis_of(distribution=distribution), np.arange(250.0), y)
  assert found.examples == 84 and found.total[LEVELS.index(0.5)] == 126


def test_what_is_measured_has_its_binomial_error():
  found, _ = fitted(*classifier(1000))
  test, y = classifier(400, seed=3)
  total = fitted(test, y)[1]
  result = calibration.measured(basis_of(found, log_probs=test), total, y)
  share = result['coverage']
  assert result['examples'] == 400 and abs(share - 0.9) < 0.06
  assert result['coverage_error'] == pytest.approx(math.sqrt(share * (1 - share) / 400))


def test_several_targets_of_one_example_count_once():
  distribution, y = regressor(300)
  basis = basis_of(distribution=distribution)
  found = calibration.fit(basis, np.ones(300), y)
  result = calibration.measured(basis._replace(calibration=found), np.ones(300), y)
  share = result['coverage']
  assert result['coverage_error'] == pytest.approx(math.sqrt(share * (1 - share) / 300))


def test_examples_that_are_all_right_do_not_make_a_student_certain():
  log_probs, _ = classifier(50)
  found, _ = fitted(log_probs, log_probs.argmax(1))
  assert found.temperature == 1
  probs = calibration.apply_temperature(basis_of(found, log_probs=log_probs))
  np.testing.assert_allclose(probs, np.exp(log_probs), atol=1e-6)


@pytest.mark.parametrize('task', ['classes', 'targets'])
def test_json_keeps_everything(task):
  if task == 'classes':
    (found, _), spec = fitted(*classifier(30)), {'family': 'categorical', 'targets': 5}
  else:
    distribution, y = regressor(30)
    found = calibration.fit(basis_of(distribution=distribution), np.ones(30), y)
    spec = {'family': 'gaussian', 'targets': 2}
  found = dataclasses.replace(found, test={'examples': 7, 'coverage': 0.9})
  stored = json.loads(json.dumps(calibration.to_json(found), allow_nan=False))
  assert calibration.from_json(stored, spec) == found
  for name in stored:
    for value in (None, -1, 'x', [], {}, [1.0], float('nan'), 10**400, [None] * len(LEVELS)):
      allowed = {'test': (None, {}), 'total': ([None] * len(LEVELS),)}.get(name, ())
      if value not in allowed:
        with pytest.raises(ValueError, match='calibration'):
          calibration.from_json({**stored, name: value}, spec)
  other = {'family': 'gaussian' if task == 'classes' else 'categorical', 'targets': 2}
  with pytest.raises(ValueError, match='calibration'):
    calibration.from_json(stored, other)


@pytest.mark.parametrize('value', [0, 1, -0.1, 1.5, float('nan'), '0.9', True])
def test_levels_outside_are_refused(value):
  found = Calibration(
    9, (1.0,) * len(LEVELS), 1.0, {k: (1.0,) * len(LEVELS) for k in ('lac', 'aps')}
  )
  basis = basis_of(found, log_probs=np.log([[0.5, 0.5]]))
  with pytest.raises(ValueError, match='coverage=.*between 0 and 1'):
    calibration.sets(basis, value)
  with pytest.raises(ValueError, match='rate=.*between 0 and 1'):
    calibration.abstain(basis, np.ones(1), value)


def test_the_wrong_family_is_named():
  found, _ = fitted(*classifier(30))
  with pytest.raises(ValueError, match='use predict_set'):
    calibration.quantiles(basis_of(found, log_probs=classifier(3)[0]), 0.5)
  distribution, y = regressor(30)
  found = calibration.fit(basis_of(distribution=distribution), np.ones(30), y)
  basis = basis_of(found, distribution=distribution)
  with pytest.raises(ValueError, match='use quantiles'):
    calibration.sets(basis, 0.9)
  with pytest.raises(ValueError, match='calibrated=True is for classifiers'):
    calibration.apply_temperature(basis)


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  plan = tiny.plan(tiny.config(), tiny.dataset(), tmp_path_factory.mktemp('runs'))
  export.save_all(plan, tiny.untrained(plan)[1])
  return plan.folder / 'student'


def test_a_student_stores_the_calibration_of_its_validation_part(folder):
  model, dataset = export.load(folder), tiny.dataset()
  p = model.predict(dataset.test.x, calibrated=True)
  raw = model.predict(dataset.test.x)
  log_probs = np.asarray(model.predictive(dataset.valid.x).log_probs())
  temperature = metrics.fit_temperature(log_probs, dataset.valid.y)
  assert model.calibration.temperature == pytest.approx(temperature, rel=1e-6)
  test = np.asarray(model.predictive(dataset.test.x).log_probs())
  by_hand = np.exp(metrics.apply_temperature(test, temperature))
  np.testing.assert_allclose(p.probs, by_hand, atol=1e-6)
  np.testing.assert_array_equal(p.total, raw.total)
  assert p.abstain(0.5).dtype == bool and p.abstain(0.5).shape == p.total.shape
  sets = model.predict_set(dataset.test.x, coverage=0.8)
  np.testing.assert_array_equal(sets, raw.predict_set(0.8))
  assert sets.shape == p.probs.shape and model.calibration.examples == len(dataset.valid.y)
  assert model.calibration.test['examples'] == len(dataset.test.y)


def test_a_student_without_calibration_says_why(folder, tmp_path):
  dataset = tiny.dataset()
  model = export.load(folder)
  old = {name: value for name, value in model.spec.items() if name != 'calibration'}
  model = Model(old, model.student, model.variables)
  with pytest.raises(ValueError, match='stored without a calibration.*calibrate'):
    model.predict(dataset.test.x).abstain()
  config = tiny.config(data__valid=0, student__keep='last', teacher__keep='last')
  empty = tiny.replace(dataset, valid=data.Split(dataset.valid.x[:0], dataset.valid.y[:0]))
  plan = tiny.plan(config, empty, tmp_path)
  export.save_all(plan, tiny.untrained(plan)[1])
  model = export.load(tmp_path / 'student')
  for use in (
    lambda: model.predict(dataset.test.x, calibrated=True),
    lambda: model.predict_set(dataset.test.x),
  ):
    with pytest.raises(ValueError, match='without validation examples'):
      use()
  again = model.calibrate(dataset.valid.x, dataset.valid.y)
  assert again.predict_set(dataset.test.x).shape == (len(dataset.test.y), 3)
  for y in (dataset.valid.y[1:], dataset.valid.y - 1, dataset.valid.y.astype(float), ['cat'] * 24):
    with pytest.raises(ValueError, match='^y '):
      model.calibrate(dataset.valid.x, y)


def test_digits_are_covered():
  """Sets of another classifier on digits hold the label as often as they should."""
  from sklearn.linear_model import LogisticRegression

  digits = data.load('digits')
  flat = [split.x.reshape(len(split.y), -1) for split in (digits.train, digits.valid, digits.test)]
  model = LogisticRegression(max_iter=100, C=0.1).fit(flat[0], digits.train.y)
  valid, test = (model.predict_log_proba(x).astype(np.float32) for x in flat[1:])
  found = fitted(valid, digits.valid.y)[0]
  for coverage in (0.8, 0.9, 0.95):
    member = calibration.sets(basis_of(found, log_probs=test), coverage)
    share = member[np.arange(len(test)), digits.test.y].mean()
    error = math.sqrt(coverage * (1 - coverage) * (1 / len(valid) + 1 / len(test)))
    assert abs(share - coverage) < 3 * error
