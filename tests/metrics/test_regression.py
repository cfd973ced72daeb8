"""Metrics of regressors against numerical integration, scipy and sampling."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, special, stats

from ensdistill import metrics, predictive
from ensdistill.metrics import regression
from ensdistill.metrics.distributions import Gaussians, host

QUICK = settings(max_examples=15, deadline=None, derandomize=True)


def mixture(seed, batch=6, members=3, targets=1, spread=2.0):
  rng = np.random.default_rng(seed)
  mean_BMD = rng.normal(0, spread, (batch, members, targets))
  return predictive.GaussianMixture(mean_BMD, rng.normal(-1, 1.0, (batch, members, targets)))


def wishart(seed, batch=6, targets=1, low=-2.0, high=4.0):
  rng = np.random.default_rng(seed)
  fields = rng.normal(0, 1, (2, batch, targets)), rng.uniform(low, high, (2, batch, targets))
  return predictive.NormalWishart(*fields[0], *fields[1])


def pdf(p, b, d=0):
  """Return the density and the cdf of one example's target, by scipy."""
  if isinstance(p, predictive.GaussianMixture):
    parts = stats.norm(p.mean_BMD[b, :, d], np.exp(p.log_var_BMD[b, :, d] / 2))
    return lambda y: parts.pdf(y).mean(), lambda y: parts.cdf(y).mean()
  kappa, nu = np.exp(p.log_kappa_BD[b, d]), 2 + np.exp(p.log_dof_BD[b, d])
  inverse_l = (nu - 2) * np.exp(p.log_var_BD[b, d])
  t = stats.t(nu, p.mean_BD[b, d], np.sqrt((kappa + 1) / (kappa * nu) * inverse_l))
  return t.pdf, t.cdf


def integral(f, *points):
  ends = [-np.inf, *sorted(points), np.inf]
  return sum(integrate.quad(f, a, b, epsabs=1e-11, limit=200)[0] for a, b in zip(ends, ends[1:]))


BOTH = pytest.mark.parametrize('make', [mixture, wishart])


@BOTH
def test_scores_by_integration(make):
  p, y_BD = make(0), np.random.default_rng(1).normal(0, 2, (6, 1))
  logs, crps, pits = [], [], []
  for b, y in enumerate(y_BD[:, 0]):
    density, cdf = pdf(p, b)
    logs.append(np.log(density(y)))
    pits.append(cdf(y))
    below = integrate.quad(lambda x, cdf=cdf: cdf(x) ** 2, -np.inf, y, epsabs=1e-11, limit=200)[0]
    above = integrate.quad(lambda x, cdf=cdf: (1 - cdf(x)) ** 2, y, np.inf, epsabs=1e-11, limit=200)
    crps.append(below + above[0])
  np.testing.assert_allclose(metrics.regression.nll(p, y_BD), -np.mean(logs), rtol=1e-9)
  np.testing.assert_allclose(host(p).crps(y_BD)[:, 0], crps, rtol=1e-6)
  np.testing.assert_allclose(metrics.crps(p, y_BD), np.mean(crps), rtol=1e-6)
  np.testing.assert_allclose(metrics.pit(p, y_BD)[:, 0], pits, atol=1e-9)


@BOTH
def test_float64_distributions_agree_with_float32(make):
  """There are two targets, so that joint and marginal densities differ."""
  p, y_BD = make(2, targets=2), np.random.default_rng(3).normal(0, 1, (6, 2))
  h = host(p)

  def assert_close(a, b):
    np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-5)

  assert_close(h.log_prob(y_BD), p.log_prob(y_BD))
  for name, value_B in regression.uncertainties(p).items():
    assert_close(value_B, getattr(p, name)())
  assert_close(metrics.rmse(p, y_BD), np.sqrt(((np.asarray(p.mean()) - y_BD) ** 2).mean()))


@BOTH
def test_cdfs_and_quantiles_of_two_targets_by_scipy(make):
  p, y_BD = make(2, targets=2), np.random.default_rng(3).normal(0, 1, (6, 2))
  h = host(p)
  cdf_BD, quantile_BD = h.cdf(y_BD), h.quantile(0.2)
  for b, d in np.ndindex(6, 2):
    cdf = pdf(p, b, d)[1]
    assert cdf_BD[b, d] == pytest.approx(cdf(y_BD[b, d]), abs=1e-9)
    assert cdf(quantile_BD[b, d]) == pytest.approx(0.2, abs=1e-9)


@pytest.mark.parametrize('q', [0.01, 0.025, 0.4, 0.5, 0.9, 0.975])
def test_quantiles_of_a_wishart_are_scipys(q):
  p = wishart(22, batch=16, targets=2, low=-3.0, high=3.0)
  nu, kappa = 2 + np.exp(p.log_dof_BD), np.exp(p.log_kappa_BD)
  scale = np.sqrt((kappa + 1) / (kappa * nu) * (nu - 2) * np.exp(p.log_var_BD))
  np.testing.assert_allclose(host(p).quantile(q), stats.t(nu, p.mean_BD, scale).ppf(q), rtol=1e-9)


def test_quantile_of_one_gaussian():
  p = mixture(23, members=1, targets=2)
  expected_BD = p.mean_BMD[:, 0] + special.ndtri(0.9) * np.exp(p.log_var_BMD[:, 0] / 2)
  np.testing.assert_allclose(host(p).quantile(0.9), expected_BD, rtol=1e-12)


@pytest.mark.parametrize('nu', [2.001, 2.5, 7.99, 8.0, 100.0, 1e5, 1e9])
def test_the_cdf_of_a_students_t(nu):
  t_BD = np.concatenate([np.linspace(-9, 9, 91), [-1e6, 1e6]])[:, None]
  fields = [np.full_like(t_BD, v) for v in (0.0, np.log(nu / (nu - 2)), 60.0, np.log(nu - 2))]
  found = host(predictive.NormalWishart(*fields)).cdf(t_BD)  # with scale 1
  np.testing.assert_allclose(found, stats.t(nu).cdf(t_BD), atol=1e-9)


@BOTH
def test_intervals(make):
  p = make(4, batch=50)
  for q in (1e-4, 0.3, 0.5, 0.999):
    np.testing.assert_allclose(host(p).cdf(host(p).quantile(q)), q, atol=1e-9)
  low, high = host(p).quantile(0.05), host(p).quantile(0.95)
  assert metrics.sharpness(p, 0.9) == pytest.approx((high - low).mean())
  y_BD = np.random.default_rng(5).normal(0, 2, (50, 1))
  inside = (y_BD >= low) & (y_BD <= high)
  assert metrics.coverage(p, y_BD, 0.9) == inside.mean()
  levels = metrics.coverage(p, y_BD, [0.1, 0.9, 1 - 1e-9])
  assert levels.shape == (3,) and levels[1] == inside.mean() and levels[2] == 1
  assert (np.diff(levels) >= 0).all()


def test_quantile_between_distant_members():
  """Half of the probability lies on each side of a gap of zero density."""
  p = predictive.GaussianMixture(np.array([[[-1e6], [1e6]]]), np.zeros((1, 2, 1)))
  assert abs(host(p).quantile(0.5)[0, 0]) < 1e6
  np.testing.assert_allclose(host(p).quantile(0.25), -1e6, rtol=1e-12)
  np.testing.assert_allclose(host(p).quantile(0.95), 1e6 + special.ndtri(0.9), rtol=1e-12)


def test_memory_does_not_grow_with_the_set(monkeypatch):
  """Every score is computed on a few examples at a time, with the same result."""
  p, y_BD = mixture(20, batch=40, targets=2), np.random.default_rng(21).normal(0, 2, (40, 2))

  def scores():
    return [
      regression.nll(p, y_BD),
      metrics.crps(p, y_BD),
      metrics.sharpness(p),
      metrics.pit(p, y_BD),
      regression.entropies(p),
      regression.divergences(p, p),
    ]

  whole, sizes = scores(), []
  for name in ('log_prob', 'crps', 'cdf', 'quantile', 'entropies', 'kl'):
    method = getattr(Gaussians, name)

    def recorded(q, *args, method=method):
      sizes.append(len(q.mean()))
      return method(q, *args)

    monkeypatch.setattr(Gaussians, name, recorded)
  monkeypatch.setattr(regression, 'BLOCK', 7 * 3 * 2)
  for ours, theirs in zip(scores(), whole, strict=True):
    np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-9)
  assert max(sizes) == 7


def draw(p, seed):
  """Draw one target an example from its predicted distribution."""
  rng = np.random.default_rng(seed)
  if isinstance(p, predictive.GaussianMixture):
    member_B = rng.integers(0, p.mean_BMD.shape[1], len(p.mean_BMD))
    mean, log_var = (a[np.arange(len(a)), member_B] for a in (p.mean_BMD, p.log_var_BMD))
    return rng.normal(mean, np.exp(log_var / 2))
  nu = 2 + np.exp(p.log_dof_BD)
  precision = rng.gamma(nu / 2, 2 / ((nu - 2) * np.exp(p.log_var_BD)))
  mean = rng.normal(p.mean_BD, (np.exp(p.log_kappa_BD) * precision) ** -0.5)
  return rng.normal(mean, precision**-0.5)


@BOTH
def test_draws_look_calibrated(make):
  p = make(6, batch=4000)
  y_BD = draw(p, 7)
  pit_BD = metrics.pit(p, y_BD)
  assert stats.kstest(pit_BD[:, 0], 'uniform').pvalue > 0.01
  assert metrics.calibration_error(pit_BD) < 0.02
  for level in (0.5, 0.9):
    assert abs(metrics.coverage(p, y_BD, level) - level) < 0.03
  wide = predictive.GaussianMixture(np.zeros((4000, 1, 1)), np.full((4000, 1, 1), 10.0))
  assert metrics.calibration_error(metrics.pit(wide, y_BD)) > 0.2


@QUICK
@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_calibration_error_is_an_integral(pit):
  levels = (np.arange(20_000) + 0.5) / 20_000
  below = (np.array(pit)[:, None] <= levels).mean(0)
  expected = np.abs(below - levels).mean()
  assert metrics.calibration_error(np.array(pit)) == pytest.approx(expected, abs=1e-4)


def test_calibration_error_by_hand():
  assert metrics.calibration_error(np.zeros(7)) == pytest.approx(0.5)
  assert metrics.calibration_error(np.ones(7)) == pytest.approx(0.5)
  assert metrics.calibration_error(np.array([0.5])) == pytest.approx(0.25)
  assert metrics.calibration_error((np.arange(1000) + 0.5) / 1000) < 1e-3


@pytest.mark.parametrize('make', [mixture, wishart, lambda seed: mixture(seed, members=1)])
def test_entropies_by_integration(make):
  p = make(8)
  total_B, data_B, knowledge_B = regression.entropies(p)
  np.testing.assert_allclose(total_B, data_B + knowledge_B, atol=1e-9)
  for b in range(6):
    density, _ = pdf(p, b)
    points = p.mean_BMD[b, :, 0] if hasattr(p, 'mean_BMD') else [p.mean_BD[b, 0]]
    expected = integral(lambda y, f=density: special.entr(f(y)), *points)
    assert total_B[b] == pytest.approx(expected, abs=1e-6)
  if hasattr(p, 'mean_BMD'):
    log_std = p.log_var_BMD[..., 0] / 2
    np.testing.assert_allclose(data_B, (log_std + np.log(2 * np.pi * np.e) / 2).mean(1))


@pytest.mark.parametrize('log_dof', [-1.0, 2.0, 3.3, 3.5, 5.0])
def test_entropies_of_a_wishart_by_integration(log_dof):
  """Data is integrated over the precision's Gamma; knowledge is the rest of the entropy."""
  p = predictive.NormalWishart(*(np.full((1, 1), v) for v in (0.0, -0.5, 1.0, log_dof)))
  nu, data = 2 + np.exp(log_dof), np.exp(-0.5)
  gamma = stats.gamma(nu / 2, scale=2 / ((nu - 2) * data))

  def weighted_entropy(precision):
    return gamma.pdf(precision) * np.log(2 * np.pi * np.e / precision) / 2

  near, middle, far = gamma.ppf([1e-12, 0.5, 1 - 1e-12])
  ends = [0, near, middle, far, np.inf]
  tight = dict(epsabs=1e-12, epsrel=1e-12, limit=400)
  expected = sum(integrate.quad(weighted_entropy, a, b, **tight)[0] for a, b in zip(ends, ends[1:]))
  _, data_B, knowledge_B = regression.entropies(p)
  np.testing.assert_allclose(data_B, expected, atol=1e-9)
  density, _ = pdf(p, 0)
  whole = integral(lambda y: special.entr(density(y)), -30, -3, 0, 3, 30)
  np.testing.assert_allclose(knowledge_B, whole - expected, atol=1e-8)


@pytest.mark.parametrize('log_dof', [20.0, 30.0, 40.0, 60.0])
@pytest.mark.parametrize('log_kappa', [0.0, 20.0, 60.0])
def test_knowledge_of_a_wishart_that_is_nearly_normal(log_kappa, log_dof):
  """Knowledge is log(1 + 1/kappa) / 2 of the mean plus 1 / (2 nu) of the precision."""
  p = predictive.NormalWishart(*(np.full((1, 1), v) for v in (0.0, 0.0, log_kappa, log_dof)))
  expected = np.log1p(np.exp(-log_kappa)) / 2 + np.exp(-log_dof) / 2
  np.testing.assert_allclose(regression.entropies(p)[2], expected, rtol=1e-6)


def test_knowledge_by_entropy_of_near_and_distant_members():
  mean = np.array([[[0.0], [1e-5]], [[-50.0], [50.0]], [[3.0], [3.0]]])
  p = predictive.GaussianMixture(mean, np.zeros((3, 2, 1)))
  knowledge_B = regression.entropies(p)[2]
  np.testing.assert_allclose(knowledge_B[0], 1e-10 / 8, rtol=1e-3)  # delta^2 / 8 for two members
  np.testing.assert_allclose(knowledge_B[1], np.log(2), rtol=1e-7)
  assert knowledge_B[2] == 0


@pytest.mark.parametrize('members, tolerance', [(1, 1e-9), (3, 1e-9), (30, 1e-7)])
def test_quadrature_with_many_members_and_uneven_widths(members, tolerance):
  p = mixture(9, batch=3, members=members)
  total_B = regression.entropies(p)[0]
  for b in range(3):
    density, _ = pdf(p, b)
    points = p.mean_BMD[b, :, 0]
    expected = integral(lambda y, f=density: special.entr(f(y)), *points)
    assert total_B[b] == pytest.approx(expected, abs=tolerance)


@pytest.mark.parametrize('student', [mixture(10), wishart(11), mixture(12, members=5)])
def test_agreement_by_integration(student):
  ensemble = mixture(13)
  kl, rank = metrics.regression.agreement(student, ensemble)
  expected = []
  for b in range(6):
    (p, _), (q, _) = pdf(ensemble, b), pdf(student, b)
    points = ensemble.mean_BMD[b, :, 0]
    low, high = points.min() - 40, points.max() + 40

    def divergence(y, p=p, q=q):
      return special.rel_entr(p(y), max(q(y), 1e-300))

    ends = [low, *sorted(points), high]
    expected.append(
      sum(integrate.quad(divergence, a, c, limit=200)[0] for a, c in zip(ends, ends[1:]))
    )
  assert kl == pytest.approx(np.mean(expected), rel=1e-6)
  ours, theirs = (regression.uncertainties(p)['knowledge'] for p in (student, ensemble))
  assert rank == pytest.approx(stats.spearmanr(ours, theirs).statistic)
  assert metrics.regression.agreement(ensemble, ensemble) == (
    pytest.approx(0, abs=1e-12),
    pytest.approx(1),
  )


@pytest.mark.parametrize('narrower', [30, 100])
def test_agreement_with_a_student_of_narrow_members(narrower):
  """Between the members, the student's log density has kinks on a smaller scale."""
  ensemble, student = (mixture(seed, batch=1, members=20, spread=0.5) for seed in (17, 18))
  log_var_BMD = student.log_var_BMD - 2 * np.log(narrower)
  student = predictive.GaussianMixture(student.mean_BMD, log_var_BMD)
  y = np.linspace(-15, 15, 200_001)
  log_p, log_q = (host(p).log_pdf(y[None, :, None])[0, :, 0] for p in (ensemble, student))
  expected = np.trapezoid(np.exp(log_p) * (log_p - log_q), y)
  np.testing.assert_allclose(regression.divergences(student, ensemble), expected, rtol=1e-6)


def test_knowledge_of_members_far_apart():
  p = predictive.GaussianMixture(np.linspace(-1e4, 1e4, 20)[None, :, None], np.zeros((1, 20, 1)))
  np.testing.assert_allclose(regression.entropies(p)[2], np.log(20), rtol=1e-9)


@BOTH
@pytest.mark.parametrize('scale, shift', [(1e9, -1e9), (1e-9, 3e-9), (1e9, 1e12)])
def test_units(make, scale, shift):
  """A change of units changes the metrics by exactly the scale."""
  p, y_BD = make(14, targets=2), np.random.default_rng(15).normal(0, 1, (6, 2))
  moved, moved_y_BD = p.affine(scale, shift), y_BD * scale + shift
  for metric in metrics.rmse, metrics.crps:
    assert metric(moved, moved_y_BD) == pytest.approx(scale * metric(p, y_BD), rel=1e-9)
  nll = metrics.regression.nll(p, y_BD)
  assert regression.nll(moved, moved_y_BD) == pytest.approx(nll + 2 * math.log(scale), abs=1e-9)
  assert metrics.sharpness(moved) == pytest.approx(scale * metrics.sharpness(p), rel=1e-9)
  np.testing.assert_allclose(metrics.pit(moved, moved_y_BD), metrics.pit(p, y_BD), atol=1e-9)


@pytest.mark.parametrize('log_dof', [-20.0, 10.0, 40.0, 60.0])
def test_extreme_wisharts(log_dof):
  p = predictive.NormalWishart(*(np.full((1, 1), v) for v in (0.0, 0.0, 60.0, log_dof)))
  y_BD = np.full((1, 1), 0.7)
  values = metrics.crps(p, y_BD), regression.nll(p, y_BD), metrics.sharpness(p, 0.9)
  assert np.isfinite(values).all() and np.isfinite(regression.entropies(p)).all()
  if log_dof >= 40:
    normal = predictive.GaussianMixture(np.zeros((1, 1, 1)), np.zeros((1, 1, 1)))
    expected = [metrics.crps(normal, y_BD), regression.nll(normal, y_BD), metrics.sharpness(normal)]
    np.testing.assert_allclose(values, expected, rtol=1e-7)


def test_inputs_that_are_refused():
  p = mixture(16)
  with pytest.raises(ValueError, match='do not fit'):
    metrics.rmse(p, np.zeros(6))
  with pytest.raises(ValueError, match='NaN'):
    metrics.rmse(p, np.full((6, 1), np.nan))
  with pytest.raises(ValueError, match='Dirichlet'):
    metrics.rmse(predictive.Dirichlet(np.zeros((6, 2))), np.zeros((6, 1)))


@pytest.mark.parametrize('level', [90, 1.0, 0.0, -0.5, np.nan, [0.5, 90]])
def test_levels_outside_of_0_to_1_are_refused(level):
  p = mixture(19)
  for call in (
    lambda: metrics.coverage(p, np.zeros((6, 1)), level),
    lambda: metrics.sharpness(p, level),
  ):
    with pytest.raises(ValueError, match='not between 0 and 1.*0.9 for 90 %'):
      call()
