"""Summaries: each number under a name of results.json is the metric of that name."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special

from ensdistill import metrics, predictive
from ensdistill.metrics import arrays, entropies, regression, summary

QUICK = settings(max_examples=15, deadline=None, derandomize=True)


def mixture(seed, batch=60, members=3, classes=5, signal=2.0):
  rng = np.random.default_rng(seed)
  labels_B = rng.integers(0, classes, batch)
  z_BMK = rng.normal(0, 1, (batch, 1, classes)) + rng.normal(0, 1, (batch, members, classes))
  z_BMK[np.arange(batch), :, labels_B] += signal
  log_probs_BMK = special.log_softmax(2 * z_BMK, -1).astype(np.float32)
  return predictive.Mixture(log_probs_BMK), labels_B


def dirichlet(seed, **settings):
  p, labels_B = mixture(seed, members=1, **settings)
  return predictive.Dirichlet(p.log_probs_BMK[:, 0] + 3), labels_B


def classify(p, labels_B, **settings):
  valid, valid_labels = mixture(99)
  return summary.classification(
    p, labels_B, valid_predictive=valid, valid_labels=valid_labels, **settings
  )


def test_classification_of_a_mixture():
  (p, labels_B), (valid, valid_labels) = mixture(0), mixture(99)
  ensemble, _ = mixture(1)
  ours = classify(p, labels_B, ensemble=ensemble, ensemble_cnll=[2.0, 0.01])
  log_probs_BK = special.logsumexp(np.float64(p.log_probs_BMK), 1) - np.log(3)
  valid_BK = special.logsumexp(np.float64(valid.log_probs_BMK), 1) - np.log(3)
  temperature = metrics.fit_temperature(valid_BK, valid_labels)
  soft_BK = metrics.apply_temperature(log_probs_BK, temperature)
  correct_B = log_probs_BK.argmax(-1) == labels_B
  parts = log_probs_BK, labels_B, valid_BK, valid_labels
  sets = {'conformal': metrics.conformal(*parts)}
  for kind in 'aps', 'raps':
    sets[f'conformal_{kind}'] = metrics.conformal(*parts, kind=kind, seed=0)
  their_BK = special.logsumexp(np.float64(ensemble.log_probs_BMK), 1) - np.log(3)
  kl, rank = metrics.agreement(log_probs_BK, their_BK, p.knowledge(), ensemble.knowledge())
  total_B = np.asarray(p.total())
  expected = {
    'acc': metrics.accuracy(log_probs_BK, labels_B),
    'nll': metrics.nll(log_probs_BK, labels_B),
    'bs': metrics.brier(log_probs_BK, labels_B),
    'ece': metrics.ece(log_probs_BK, labels_B),
    'ece_10': metrics.ece(log_probs_BK, labels_B, 10),
    'ece_100': metrics.ece(log_probs_BK, labels_B, 100),
    'aece': metrics.adaptive_ece(log_probs_BK, labels_B),
    'temperature': temperature,
    'cnll': metrics.nll(soft_BK, labels_B),
    'cbs': metrics.brier(soft_BK, labels_B),
    'cece': metrics.ece(soft_BK, labels_B),
    'pairwise_kl': metrics.pairwise_kl(p.log_probs_BMK),
    'epkl': metrics.epkl(p.log_probs_BMK),
    'disagreement': metrics.disagreement(p.log_probs_BMK),
    'member_acc': metrics.member_accuracies(p.log_probs_BMK, labels_B).mean(),
    'total': total_B.mean(),
    'data': np.asarray(p.data()).mean(),
    'knowledge': np.asarray(p.knowledge()).mean(),
    'prr': metrics.prr(-log_probs_BK.max(-1), correct_B),
    'prr_total': metrics.prr(total_B, correct_B),
    'prr_knowledge': metrics.prr(np.asarray(p.knowledge()), correct_B),
    'misclassification/auroc_total': metrics.auroc(total_B[correct_B], total_B[~correct_B]),
    'misclassification/fpr95_total': metrics.fpr95(total_B[correct_B], total_B[~correct_B]),
    'dee': metrics.dee([2.0, 0.01], ours['cnll']),
    'agreement_kl': kl,
    'agreement_knowledge': rank,
    'aurc': metrics.aurc(total_B, ~correct_B),
    'augrc': metrics.augrc(total_B, ~correct_B),
    'coverage_at_5_risk': metrics.coverage_at_risk(total_B, correct_B, 0.05),
    'risk_at_80_coverage': metrics.risk_at_coverage(total_B, correct_B, 0.8),
    'classwise_ece': metrics.classwise_ece(log_probs_BK, labels_B),
    'smooth_ece': metrics.smooth_ece(log_probs_BK, labels_B),
    **{f'{name}_size': size for name, (size, _) in sets.items()},
    **{f'{name}_coverage': covered for name, (_, covered) in sets.items()},
  }
  for name, value in expected.items():
    assert ours[name] == pytest.approx(value, rel=2e-5, abs=1e-6), name
  assert ours['member_acc_min'] <= ours['member_acc'] <= ours['member_acc_max']
  assert all(type(value) is float for value in ours.values())


def test_classification_of_a_dirichlet():
  p, labels_B = dirichlet(0)
  ours = classify(p, labels_B)
  assert ours['knowledge'] == pytest.approx(np.asarray(p.knowledge()).mean(), rel=1e-5)
  assert ours['data'] == pytest.approx(np.asarray(p.data()).mean(), rel=1e-5)
  assert ours['pairwise_kl'] == ours['epkl']
  epkl_B = 4 / np.exp(np.float64(p.log_alpha_BK)).sum(-1)
  assert ours['epkl'] == pytest.approx(epkl_B.mean(), rel=1e-5)
  assert 'member_acc' not in ours and 'dee' not in ours and 'agreement_kl' not in ours
  same = classify(predictive.Mixture(np.asarray(p.log_probs())[:, None]), labels_B)
  for name in ('acc', 'nll', 'ece', 'cnll', 'prr', 'prr_total'):
    assert ours[name] == pytest.approx(same[name], rel=1e-4), name


def test_one_network_has_no_knowledge_uncertainty():
  ours = classify(*mixture(2, members=1))
  for name in ('knowledge', 'epkl', 'pairwise_kl', 'disagreement'):
    assert ours[name] == 0
  assert ours['misclassification/auroc_knowledge'] == 0.5
  assert ours['prr_knowledge'] == pytest.approx(0, abs=1e-9)
  assert ours['total'] == ours['data']


@pytest.mark.parametrize('make', [mixture, dirichlet])
def test_without_validation_data_nothing_is_calibrated(make):
  (p, labels_B), (ensemble, _) = make(0), mixture(1)
  whole = classify(p, labels_B, ensemble=ensemble, ensemble_cnll=[2.0, 0.01])
  alone = summary.classification(
    p, labels_B, valid_predictive=None, valid_labels=None, ensemble=ensemble,
    ensemble_cnll=[math.nan, math.nan],
  )  # fmt: skip
  assert alone.keys() == whole.keys()
  undefined = {name for name, value in alone.items() if math.isnan(value)}
  assert undefined == {*summary.CALIBRATED, 'dee'}
  assert undefined == {
    *('temperature', 'cnll', 'cbs', 'cece', 'caece', 'dee', 'conformal_size', 'conformal_coverage'),
    *('conformal_aps_size', 'conformal_aps_coverage'),
    *('conformal_raps_size', 'conformal_raps_coverage'),
  }
  for name in alone.keys() - undefined:
    assert alone[name] == whole[name], name
  assert 'dee' not in summary.classification(p, labels_B)


@pytest.mark.parametrize('batch', [1, 30])
def test_without_an_error(batch):
  p, labels_B = mixture(3, batch=batch, signal=50.0)
  ours = classify(p, labels_B)
  assert ours['acc'] == 1
  undefined = {name for name, value in ours.items() if math.isnan(value)}
  assert undefined == {name for name in ours if name.startswith(('prr', 'misclassification/'))}


@pytest.mark.parametrize('make', [mixture, dirichlet])
def test_blocks_and_streams_give_the_same_metrics(make, monkeypatch):
  (p, labels_B), (ensemble, _) = make(4), mixture(5)
  whole = classify(p, labels_B, ensemble=ensemble)
  for module in arrays, summary:
    monkeypatch.setattr(module, 'BLOCK', 50)  # the draws of randomised sets do not depend on it
  small = classify(jax.tree.map(jnp.asarray, p), labels_B, ensemble=ensemble)
  assert whole == pytest.approx(small, rel=1e-9)
  parts = [
    summary.examples(jax.tree.map(lambda a, i=i: a[i : i + 7], p), labels_B[i : i + 7])
    for i in range(0, 60, 7)
  ]
  streamed = summary.classification_metrics(summary.join(parts))
  assert streamed['prr_total'] == pytest.approx(whole['prr_total'])


@QUICK
@given(st.integers(0, 10**6), st.integers(1, 4))
def test_classification_properties(seed, members):
  p, labels_B = mixture(seed, batch=25, members=members, signal=1.0)
  ours = classify(p, labels_B)
  order_B = np.random.default_rng(seed).permutation(25)
  shuffled = predictive.Mixture(p.log_probs_BMK[order_B][:, ::-1])
  again = classify(shuffled, labels_B[order_B])
  for name in summary.CALIBRATED:
    if 'aps' in name:  # randomised example by example, so the order matters
      ours[name] = again[name]
  assert again == pytest.approx(ours, rel=1e-6, abs=1e-7, nan_ok=True)
  assert ours['knowledge'] >= 0 and 0 <= ours['ece'] <= 1 and 0 <= ours['cece'] <= 1
  assert ours['total'] == pytest.approx(ours['data'] + ours['knowledge'])


@pytest.mark.parametrize('make', [mixture, dirichlet])
def test_float64_uncertainties_are_those_of_float32(make):
  p, _ = make(6)
  log_probs_BK, ours = entropies.log_probs_and_uncertainties(p)
  np.testing.assert_allclose(log_probs_BK, p.log_probs(), rtol=1e-5, atol=1e-6)
  np.testing.assert_allclose(entropies.log_probs(p), log_probs_BK)
  for name in ('total', 'data', 'knowledge'):
    np.testing.assert_allclose(ours[name], getattr(p, name)(), rtol=2e-5, atol=1e-6)


def test_expected_pairwise_kl_of_a_dirichlet_by_sampling():
  alpha = np.array([2.0, 0.7, 5.0])
  _, ours = entropies.log_probs_and_uncertainties(predictive.Dirichlet(np.log(alpha)[None]))
  draws = np.random.default_rng(5).dirichlet(alpha, 400_000)
  kl = special.rel_entr(draws[::2], draws[1::2]).sum(-1).mean()
  np.testing.assert_allclose(ours['epkl'], kl, rtol=0.02)


@QUICK
@given(st.integers(0, 10**6), st.integers(1, 4))
def test_expected_pairwise_kl_is_at_least_the_knowledge(seed, members):
  p, _ = mixture(seed, batch=25, members=members)
  _, ours = entropies.log_probs_and_uncertainties(p)
  assert (ours['epkl'] >= ours['knowledge'] - 1e-12).all()
  order_M = np.arange(members)[::-1]
  _, again = entropies.log_probs_and_uncertainties(predictive.Mixture(p.log_probs_BMK[:, order_M]))
  np.testing.assert_allclose(again['epkl'], ours['epkl'], rtol=1e-6, atol=1e-12)


def test_uncertainties_of_extreme_predictions():
  """Probabilities below float64's range, certain members, sharp and flat Dirichlets."""
  log_probs_BMK = np.array([[[0.0, -2000.0], [0.0, -1500.0]]])
  assert entropies.log_probs(predictive.Mixture(log_probs_BMK))[0, 1] == -1500 - np.log(2)
  with np.errstate(divide='ignore'):
    certain = predictive.Mixture(np.log([[[1.0, 0.0], [0.0, 1.0]]]))
  _, ours = entropies.log_probs_and_uncertainties(certain)
  assert ours['knowledge'] == pytest.approx(np.log(2)) and ours['data'] == 0
  assert ours['pairwise_kl'] == np.inf
  for log_alpha in (-60.0, 20.0, 60.0, 500.0):
    p = predictive.Dirichlet(np.full((1, 4), log_alpha))
    _, ours = entropies.log_probs_and_uncertainties(p)
    knowledge = np.log(4) if log_alpha < 0 else 3 / 8 * np.exp(-log_alpha)
    assert ours['knowledge'] == pytest.approx(knowledge, rel=1e-6)
    assert ours['data'] == pytest.approx(np.log(4) - knowledge, abs=1e-9)


def gaussians(seed, spread):
  rng = np.random.default_rng(seed)
  mean_BMD = rng.normal(0, spread, (40, 3, 1)) + rng.normal(0, 1, (40, 1, 1))
  return predictive.GaussianMixture(mean_BMD, rng.normal(-2, 0.5, (40, 3, 1)))


def test_regression():
  p, ensemble = gaussians(0, 0.3), gaussians(1, 0.3)
  y_BD = np.random.default_rng(2).normal(0, 1, (40, 1))
  ours = summary.regression(p, y_BD, ensemble=ensemble)
  loss_B = ((np.asarray(p.mean()) - y_BD) ** 2)[:, 0]
  curve = metrics.rejection_curve(np.asarray(p.knowledge()), loss_B)

  def area(y):
    return np.trapezoid(y, curve.rejected)

  random = area(curve.random)
  kl, rank = regression.agreement(p, ensemble)
  expected = {
    'rmse': np.sqrt(loss_B.mean()),
    'nll': -np.asarray(p.log_prob(y_BD)).mean(),
    'crps': metrics.crps(p, y_BD),
    'coverage_90': metrics.coverage(p, y_BD, 0.9),
    'sharpness_95': metrics.sharpness(p, 0.95),
    'calibration_error': metrics.calibration_error(metrics.pit(p, y_BD)),
    'knowledge': np.asarray(p.knowledge()).mean(),
    'entropy_data': (np.asarray(p.log_var_BMD) / 2 + np.log(2 * np.pi * np.e) / 2).mean(),
    'entropy_knowledge': regression.entropies(p)[2].mean(),
    'prr_knowledge': 100 * (random - area(curve.model)) / (random - area(curve.oracle)),
    'agreement_kl': kl,
    'agreement_knowledge': rank,
  }
  for name, value in expected.items():
    assert ours[name] == pytest.approx(value, rel=1e-5), name
  for kind in '', 'entropy_':
    total, data, knowledge = (ours[f'{kind}{name}'] for name in ('total', 'data', 'knowledge'))
    assert total == pytest.approx(data + knowledge)
  assert all(type(value) is float for value in ours.values())


def test_a_validation_set_without_an_error_makes_nothing_certain():
  random = np.random.default_rng(0)
  logits = random.normal(size=(300, 1, 3))
  labels = logits[:, 0].argmax(-1)
  p = predictive.Mixture(special.log_softmax(logits, -1))
  found = summary.classification(
    p, (labels + (np.arange(300) < 20)) % 3, valid_predictive=p, valid_labels=labels
  )
  assert found['cnll'] == pytest.approx(found['nll'], abs=1e-6)
  assert metrics.fit_temperature(p.log_probs_BMK[:, 0], labels) < 0.011


def test_empty_sets_and_predictives_of_regression_are_refused():
  p, labels_B = mixture(9, batch=0)
  with pytest.raises(ValueError, match='no examples'):
    metrics.of('categorical').scored(p)
  with pytest.raises(ValueError, match='classifier'):
    classify(gaussians(0, 1.0), labels_B)
