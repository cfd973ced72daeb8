"""Metrics against distributions over labels."""

import numpy as np
import pytest
import scipy.stats

from ensdistill.metrics import label_distributions as metrics


def drawn(size=50, classes=4, seed=0):
  random = np.random.default_rng(seed)
  return random.dirichlet(np.ones(classes), size), random.dirichlet(np.full(classes, 0.5), size)


def test_against_scipy():
  p, q = drawn()
  log_p = np.log(p)
  kl = scipy.stats.entropy(q, p, axis=1)
  own = scipy.stats.entropy(q, axis=1)
  assert metrics.kl(log_p, q) == pytest.approx(kl.mean())
  assert metrics.cross_entropy(log_p, q) == pytest.approx((kl + own).mean())
  rank = scipy.stats.spearmanr(scipy.stats.entropy(p, axis=1), own).statistic
  assert metrics.entropy_rank(log_p, q) == pytest.approx(rank)


def test_the_labels_themselves_are_the_best_prediction():
  _, q = drawn()
  found = metrics.against(np.log(q), q)
  assert found['kl'] == pytest.approx(0, abs=1e-12) and found['entropy_rank'] == pytest.approx(1)


def test_one_label_each_is_the_usual_loss():
  p, _ = drawn()
  labels = np.arange(50) % 4
  with np.errstate(divide='ignore'):
    log_p = np.log(p * (p > 0.01))  # some probabilities are zero
  log_p[np.arange(50), labels] = np.log(0.3)
  found = metrics.against(log_p, np.eye(4)[labels])
  assert found['cross_entropy'] == found['kl'] == pytest.approx(-np.log(0.3))
  assert np.isnan(found['entropy_rank'])  # all labels are equally certain


def test_other_shapes_are_refused():
  with pytest.raises(ValueError, match='must both be'):
    metrics.kl(np.zeros((3, 4)), np.full((3, 2), 0.5))
