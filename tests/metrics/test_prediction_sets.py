"""Conformal sets: by hand, against slow loops, and with the coverage that they promise."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special

from ensdistill import metrics
from ensdistill.metrics import prediction_sets

QUICK = settings(max_examples=20, deadline=None, derandomize=True)


def predictions(seed, batch=200, classes=5, scale=1.5):
  rng = np.random.default_rng(seed)
  labels_B = rng.integers(0, classes, batch)
  z_BK = rng.normal(0, 1, (batch, classes))
  z_BK[np.arange(batch), labels_B] += 1
  return special.log_softmax(scale * z_BK, -1), labels_B


def test_conformal_by_hand():
  """With nine scores and 80 %, the threshold is the eighth smallest: classes of at least .2."""
  p = np.array([0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1])
  valid = np.log(np.stack([p, 1 - p], -1)), np.zeros(9, int)
  test = np.log([[0.5, 0.5], [0.85, 0.15], [0.79, 0.21]]), np.array([0, 1, 1])
  size, covered = metrics.conformal(*test, *valid, coverage=0.8)
  assert size == pytest.approx((2 + 1 + 2) / 3) and covered == pytest.approx(2 / 3)
  assert metrics.conformal(*test, valid[0][:1], valid[1][:1], coverage=0.8) == (2.0, 1.0)
  with pytest.raises(ValueError, match='coverage'):
    metrics.conformal(*test, *valid, coverage=1.0)


def slow_score(kind, p_K, k, u, penalty, k_reg):
  """Return the score of one class, as it is defined."""
  if kind == 'lac':
    return -math.log(p_K[k])
  before = [j for j in range(len(p_K)) if p_K[j] > p_K[k] or (p_K[j] == p_K[k] and j < k)]
  score = sum(p_K[j] for j in before) + u * p_K[k]
  return score + (penalty * max(0, len(before) + 1 - k_reg) if kind == 'raps' else 0)


def slow_conformal(test, valid, coverage, kind, seed=None, penalty=0.01, k_reg=5):
  """Return size and coverage of sets, class by class."""
  parts = ('valid', valid), ('test', test)
  u = [prediction_sets.uniforms(len(y), seed, part) for part, (_, y) in parts]
  rest = penalty, k_reg
  own = [slow_score(kind, p, y, v, *rest) for p, y, v in zip(np.exp(valid[0]), valid[1], u[0])]
  rank = math.ceil((len(own) + 1) * coverage)
  threshold = sorted(own)[rank - 1] if rank <= len(own) else math.inf
  sets = [
    [slow_score(kind, p, k, v, *rest) <= threshold + 1e-12 for k in range(len(p))]
    for p, v in zip(np.exp(test[0]), u[1])
  ]
  return np.mean(np.sum(sets, -1)), np.mean([s[y] for s, y in zip(sets, test[1])])


@QUICK
@given(
  st.integers(0, 10**6), st.sampled_from(prediction_sets.KINDS), st.sampled_from([None, 0, 7]),
  st.integers(2, 9), st.sampled_from([0.5, 3.0]),
)  # fmt: skip
def test_sets_equal_a_slow_loop(seed, kind, random, classes, scale):
  test, valid = (predictions(seed + i, 40, classes, scale) for i in (0, 1))
  settings = {'seed': random, 'penalty': 0.05, 'k_reg': 2}
  ours = metrics.conformal(*test, *valid, 0.75, kind, **settings)
  assert ours == pytest.approx(slow_conformal(test, valid, 0.75, kind, **settings), abs=1e-6)
  ours, again = (metrics.conformal(*test, *valid, 0.75, kind, seed=random) for _ in range(2))
  assert ours == again
  assert ours == pytest.approx(slow_conformal(test, valid, 0.75, kind, random), abs=1e-6)


def test_adaptive_sets_by_hand():
  """Scores are .5, .8, 1 by rank. One of three calibration scores is the threshold."""
  p = np.log([[0.2, 0.5, 0.3]] * 3)
  valid = p, np.array([1, 1, 2])
  assert metrics.conformal_threshold(*valid, 0.5, 'aps') == pytest.approx(0.5)
  assert metrics.conformal_threshold(*valid, 0.75, 'aps') == pytest.approx(0.8)
  assert metrics.conformal(p, np.array([0, 1, 2]), *valid, 0.75, 'aps') == (2, pytest.approx(2 / 3))
  raps = metrics.conformal_threshold(*valid, 0.75, 'raps', penalty=0.1, k_reg=1)
  assert raps == pytest.approx(0.9)  # of rank 2: .8 + .1
  u = prediction_sets.uniforms(3, 4, 'valid')
  random = metrics.conformal_threshold(*valid, 0.5, 'aps', seed=4)
  assert random == pytest.approx(sorted([0.5 * u[0], 0.5 * u[1], 0.5 + 0.3 * u[2]])[1])


def test_equal_probabilities_are_ranked_by_class():
  p, valid = np.log(np.full((4, 4), 0.25)), np.arange(4)
  scores = prediction_sets.label_scores(p, valid)
  np.testing.assert_allclose(scores['aps'], [0.25, 0.5, 0.75, 1])
  np.testing.assert_allclose(scores['lac'], np.log(4))
  size_B, covered_B = metrics.conformal_sets(p, valid, 0.5, 'aps')
  assert size_B.tolist() == [2] * 4 and covered_B.tolist() == [True, True, False, False]


def test_sets_of_certain_predictions():
  """The label has probability 1 or 0; classes of probability 0 are ranked last, by their index."""
  with np.errstate(divide='ignore'):
    p = np.log([[1.0, 0.0, 0.0]] * 2)
  assert prediction_sets.label_scores(p, np.array([0, 2]))['raps'].tolist() == [1, 1]
  scores = prediction_sets.label_scores(p, np.array([0, 2]), penalty=0.1, k_reg=1)
  np.testing.assert_allclose(scores['raps'], [1, 1.2])
  assert scores['lac'].tolist() == [0, np.inf]
  assert metrics.conformal_sets(p, np.array([0, 2]), 0.9, 'aps')[0].tolist() == [0, 0]
  # One example is too few for a threshold: all classes enter.
  for kind in prediction_sets.KINDS:
    assert metrics.conformal(p, np.array([0, 2]), p[:1], np.array([0]), 0.9, kind) == (3, 1)


def test_unknown_kinds_are_refused():
  with pytest.raises(ValueError, match="unknown kind of prediction sets 'rap': did you"):
    metrics.conformal(*predictions(0), *predictions(1), kind='rap')


@pytest.mark.parametrize('kind, seed', [('lac', None), ('aps', None), ('aps', 3), ('raps', 3)])
def test_conformal_sets_have_the_promised_coverage(kind, seed):
  """The coverage of exchangeable data is averaged over many calibration sets."""
  covered = []
  for number in range(200):
    log_probs_BK, labels_B = predictions(number, 80)
    parts = log_probs_BK[40:], labels_B[40:], log_probs_BK[:40], labels_B[:40]
    random = None if seed is None else 1000 * seed + number
    covered.append(metrics.conformal(*parts, coverage=0.8, kind=kind, seed=random)[1])
  assert 0.78 < np.mean(covered) < 0.84  # between .8 and .8 + 1 / 41, and three standard errors
