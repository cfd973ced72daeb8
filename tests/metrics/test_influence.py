"""Influences of examples: their means are the metrics, their spread equals a bootstrap's."""

import math

import numpy as np
import pytest
from scipy import special

from ensdistill import metrics, predictive
from ensdistill.metrics import influence, summary

SIZE = 400


def of_classifier(p, labels_B, temperature=1.0):
  return influence.classification(summary.all_examples(p, labels_B, temperature=temperature))


def mixture(seed, members, size=SIZE, far=False):
  """Return members whose predictions have a shared part, so that some examples are difficult."""
  shared = np.random.default_rng(7 + far).normal(0, 1, (size, 1, 3))
  own = np.random.default_rng(seed).normal(0, 1, (size, members, 3))
  z_BMK = shared + own
  if not far:
    z_BMK[np.arange(size), :, np.arange(size) % 3] += 2
  return predictive.Mixture(special.log_softmax(z_BMK, -1))


LABELS = np.arange(SIZE) % 3


def test_means_are_the_metrics():
  p = mixture(0, 4)
  examples = summary.all_examples(p, LABELS, temperature=1.3)
  found = influence.classification(examples)
  theirs = summary.classification_metrics(examples, temperature=1.3)
  linear = (
    'acc',
    'nll',
    'bs',
    'cnll',
    'cbs',
    'knowledge',
    'pairwise_kl',
    'ece',
    'cece',
    'member_acc',
  )
  for key in linear:
    assert found[key][0].mean() == pytest.approx(theirs[key], rel=1e-9), key
  assert set(found) <= set(theirs)
  outside = mixture(1, 4, 300, far=True)
  family = metrics.of('categorical')
  scored = family.scored(p), family.scored(outside)
  detected = family.ood(*scored)
  for key, value in family.ood_influences(*scored).items():
    for part in value:
      assert part.mean() == pytest.approx(detected[key], rel=1e-9), key


def test_errors_are_those_of_a_bootstrap():
  """Both models see the same resampled examples."""
  pair, far = (mixture(0, 1), mixture(0, 4)), (mixture(1, 1, 300, True), mixture(1, 4, 300, True))
  inside = [summary.all_examples(p, LABELS) for p in pair]
  outside = [summary.all_examples(p) for p in far]
  random, draws = np.random.default_rng(5), []
  for _ in range(400):
    index, foreign = random.integers(0, SIZE, SIZE), random.integers(0, 300, 300)
    values = []
    for examples, out in zip(inside, outside):
      drawn = {key: value[index] for key, value in examples.items()}
      right = drawn['correct']
      auroc = metrics.auroc(drawn['total'][right], drawn['total'][~right])
      found = {key: drawn[key].mean() for key in ('nll', 'bs', 'pairwise_kl')}
      found |= {'acc': right.mean(), 'prr': metrics.prr(-drawn['confidence'], right)}
      found |= {'misclassification/auroc_total': auroc}
      found['aurc'] = metrics.aurc(drawn['total'], ~right)
      found['augrc'] = metrics.augrc(drawn['total'], ~right)
      values.append(found | {'ood': metrics.auroc(drawn['total'], out['total'][foreign])})
    draws.append({key: values[0][key] - values[1][key] for key in values[0]})
  one, several = (of_classifier(p, LABELS) for p in pair)
  errors = {key: influence.error(one[key], several[key]) for key in one}
  foreign = [influence.ood(*sets)['auroc_total'] for sets in zip(inside, outside)]
  errors['ood'] = influence.error(*foreign)
  for key in draws[0]:
    expected = np.std([draw[key] for draw in draws], ddof=1)
    assert errors[key] == pytest.approx(expected, rel=0.2), key
  alone = one['acc'][0].std(ddof=1) / SIZE**0.5
  assert errors['acc'] < math.hypot(alone, alone)  # paired: the difficult examples are the same


def test_errors_of_regression_are_those_of_a_bootstrap():
  random = np.random.default_rng(0)
  y, mean = random.normal(0, 1, (SIZE, 1)), random.normal(0, 0.5, (SIZE, 4, 1))
  pair = [predictive.GaussianMixture(mean[:, :m], 0 * mean[:, :m]) for m in (1, 4)]
  one, several = (influence.regression(p, y) for p in pair)
  squared = [(p.mean() - y)[:, 0] ** 2 for p in pair]
  draws = []
  for _ in range(500):
    index = random.integers(0, SIZE, SIZE)
    draws.append(np.sqrt(squared[0][index].mean()) - np.sqrt(squared[1][index].mean()))
  assert influence.error(one['rmse'], several['rmse']) == pytest.approx(np.std(draws), rel=0.2)
  assert {'nll', 'crps', 'knowledge'} < set(one)


def test_sets_without_errors_and_of_one_example():
  p = predictive.Mixture(np.log([[[0.7, 0.3]], [[0.6, 0.4]]]))
  right = of_classifier(p, np.array([0, 0]))
  assert right['acc'][0].tolist() == [1, 1] and not any('auroc' in key for key in right)
  one = of_classifier(predictive.Mixture(p.log_probs_BMK[:1]), np.array([0]))
  assert influence.error(one['nll'], one['nll']) == math.inf
  assert influence.error(right['nll'], right['nll']) == 0


@pytest.mark.parametrize('temperature', [None, math.nan])
def test_without_a_temperature_calibrated_metrics_have_no_influence(temperature):
  p = mixture(0, 2)
  whole, found = (of_classifier(p, LABELS, temperature=t) for t in (1.0, temperature))
  assert whole.keys() - found.keys() == {'cnll', 'cbs', 'cece'} and found.keys() <= whole.keys()


@pytest.mark.parametrize('name', ['aurc', 'augrc'])
def test_influences_on_risk_coverage_areas_are_derivatives(name):
  """Also with ties: the change of the metric when one example is repeated many times."""
  random = np.random.default_rng(3)
  uncertainty_B, correct_B = random.integers(0, 8, 3000) / 7, random.random(3000) < 0.8
  influence_B = influence._selective(uncertainty_B, correct_B)[name]
  metric, more = getattr(metrics, name), 30
  before = metric(uncertainty_B, ~correct_B)
  for i in range(0, 40, 4):
    index = np.append(np.arange(3000), [i] * more)
    change = (metric(uncertainty_B[index], ~correct_B[index]) - before) * 3000 / more
    assert influence_B[i] - influence_B.mean() == pytest.approx(change, abs=0.02)


def test_the_mean_of_members_and_of_shifts():
  members = [
    {'acc': (np.array([1.0, 0.0]),), 'prr': (np.ones(2),)},
    {'acc': (np.array([1.0, 1.0]),)},
  ]
  found = influence.mean(members)
  assert set(found) == {'acc'} and found['acc'][0].tolist() == [1, 0.5]
  (fewer,) = influence.average([(np.arange(3.0),), (np.arange(2.0) + 2,)])
  assert fewer.tolist() == [1, 2]
