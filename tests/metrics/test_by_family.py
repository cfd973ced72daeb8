"""The metrics of each family: detection of foreign inputs, shifted sets, names of families."""

import numpy as np
import pytest
from scipy import special

from ensdistill import metrics, predictive
from ensdistill.evaluation import measure
from ensdistill.metrics import influence, regression, summary

CLASSIFICATION, REGRESSION = metrics.of('categorical'), metrics.of('gaussian')


def mixture(seed, signal=2.0):
  rng = np.random.default_rng(seed)
  labels_B = rng.integers(0, 5, 60)
  z_BMK = rng.normal(0, 1, (60, 1, 5)) + rng.normal(0, 1, (60, 3, 5))
  z_BMK[np.arange(60), :, labels_B] += signal
  return predictive.Mixture(special.log_softmax(2 * z_BMK, -1).astype(np.float32)), labels_B


def gaussians(seed, spread):
  rng = np.random.default_rng(seed)
  mean_BMD = rng.normal(0, spread, (40, 3, 1)) + rng.normal(0, 1, (40, 1, 1))
  return predictive.GaussianMixture(mean_BMD, rng.normal(-2, 0.5, (40, 3, 1)))


def detected(family, inside, outside, ensemble=None):
  return family.ood(family.scored(inside), family.scored(outside, ensemble=ensemble))


def test_ood_of_classification():
  (inside, _), (outside, _) = mixture(7), mixture(8, signal=0.0)
  ours = detected(CLASSIFICATION, inside, outside, ensemble=outside)
  for name in ('total', 'data', 'knowledge'):
    pair = [np.asarray(getattr(p, name)()) for p in (inside, outside)]
    assert ours[f'auroc_{name}'] == pytest.approx(metrics.auroc(*pair), abs=1e-3)
    assert ours[f'aupr_{name}'] == pytest.approx(metrics.aupr(*pair), abs=1e-3)
    assert f'fpr95_{name}' in ours
  epkl = [[metrics.epkl(p.log_probs_BMK[i : i + 1]) for i in range(60)] for p in (inside, outside)]
  assert ours['auroc_epkl'] == pytest.approx(metrics.auroc(*epkl), abs=1e-3)
  assert ours['aupr_epkl'] == pytest.approx(metrics.aupr(*epkl), abs=1e-3)
  assert 'fpr95_epkl' in ours
  confidence = [-np.asarray(p.log_probs()).max(-1) for p in (inside, outside)]
  assert ours['auroc_confidence'] == pytest.approx(metrics.auroc(*confidence), abs=1e-3)
  assert ours['auroc_total'] > 0.6
  assert ours['agreement_knowledge'] == pytest.approx(1) and ours['agreement_kl'] == 0
  assert ours['knowledge'] == pytest.approx(np.asarray(outside.knowledge()).mean(), rel=1e-5)
  flipped = detected(CLASSIFICATION, outside, inside)
  assert flipped['auroc_total'] == pytest.approx(1 - ours['auroc_total'])
  assert 'agreement_kl' not in flipped


def test_ood_of_regression():
  inside, outside = gaussians(0, 0.1), gaussians(1, 2.0)
  ours = detected(REGRESSION, inside, outside, ensemble=outside)
  scores = [regression.entropies(p)[2] for p in (inside, outside)]
  assert ours['auroc_entropy_knowledge'] == metrics.auroc(*scores) > 0.95
  assert ours['auroc_knowledge'] > 0.95 and ours['agreement_knowledge'] == pytest.approx(1)
  assert ours['agreement_kl'] == pytest.approx(0, abs=1e-9) and 'auroc_epkl' not in ours


def test_shifted_metrics_are_those_of_the_whole_summary():
  p, labels_B = mixture(1)
  found = measure.shifted('blur', 3, CLASSIFICATION, CLASSIFICATION.scored(p, labels_B))
  whole = CLASSIFICATION.test(CLASSIFICATION.scored(p, labels_B, valid=p, valid_labels=labels_B))
  assert found == {
    f'shift/blur/3/{name}': pytest.approx(whole[name]) for name in CLASSIFICATION.shift_metrics
  }
  p, y_BD = gaussians(2, 0.3), np.random.default_rng(3).normal(0, 1, (40, 1))
  found = measure.shifted('noise', 1, REGRESSION, REGRESSION.scored(p, y_BD))
  whole = summary.regression(p, y_BD)
  assert found == {f'shift/noise/1/{name}': whole[name] for name in REGRESSION.shift_metrics}


def test_shifted_influences_have_the_names_of_shifted_metrics():
  y_BD = np.random.default_rng(3).normal(0, 1, (40, 1))
  one, labels_B = mixture(1)
  for family, p, y, whole in (
    (CLASSIFICATION, one, labels_B, influence.classification(summary.all_examples(one, labels_B))),
    (REGRESSION, gaussians(2, 0.3), y_BD, influence.regression(gaussians(2, 0.3), y_BD)),
  ):
    scored = family.scored(p, y)
    found = measure.shifted_influences('blur', 3, family, scored)
    assert found.keys() == measure.shifted('blur', 3, family, scored).keys()
    for name, (values_B,) in found.items():
      np.testing.assert_array_equal(values_B, whole[name.split('/')[-1]][0])


@pytest.mark.parametrize('p', [mixture(0)[0], gaussians(0, 1.0)], ids=lambda p: p.family)
def test_uncertainties_are_those_of_the_predictive(p):
  found = metrics.of(p.family).uncertainties(p)
  for name in ('total', 'data', 'knowledge'):
    np.testing.assert_allclose(found[name], getattr(p, name)(), rtol=2e-5, atol=1e-6)


def test_an_unknown_family_is_refused():
  with pytest.raises(ValueError, match="unknown family 'gausian': did you mean 'gaussian'"):
    metrics.of('gausian')
