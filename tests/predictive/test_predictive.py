"""Predictive distributions against float64 references, and where float32 would lose its digits."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special, stats
from sklearn.utils.extmath import softmax

from ensdistill import families, predictive
from ensdistill.predictive import regression

QUICK = settings(max_examples=20, deadline=None, derandomize=True)


def logits(seed, *shape, scale=3.0):
  return np.random.default_rng(seed).normal(0, scale, shape)


def log_softmax(z):
  return z - special.logsumexp(z, -1, keepdims=True)


def mixture(z_BMK):
  return predictive.Mixture(families.log_softmax(jnp.asarray(z_BMK, jnp.float32)))


def entropy(p):
  return special.entr(p).sum(-1)


def mixture_uncertainties(z_BMK):
  """total, data, knowledge, expected pairwise KL by their definitions, in float64."""
  log_p_BMK = log_softmax(z_BMK.astype(np.float64))
  p_BMK = np.exp(log_p_BMK)
  total_B, data_B = entropy(p_BMK.mean(1)), entropy(p_BMK).mean(1)
  members = range(z_BMK.shape[1])
  kls = [
    (p_BMK[:, i] * (log_p_BMK[:, i] - log_p_BMK[:, j])).sum(-1) for i in members for j in members
  ]
  return total_B, data_B, total_B - data_B, np.mean(kls, 0)


def read(p):
  return p.total(), p.data(), p.knowledge(), p.epkl()


def test_mixture_equals_the_definitions():
  z_BMK = logits(0, 16, 4, 5)
  for ours, theirs in zip(read(mixture(z_BMK)), mixture_uncertainties(z_BMK)):
    np.testing.assert_allclose(ours, theirs, atol=2e-6, rtol=2e-6)
  p_BK = softmax(z_BMK.reshape(-1, 5)).reshape(z_BMK.shape).mean(1)
  np.testing.assert_allclose(mixture(z_BMK).log_probs(), np.log(p_BK), atol=2e-6)


def test_mixture_keeps_digits_where_members_are_confident():
  """All members sure of class 0, with tails of 1e-9: float32's log p_top alone would be zero."""
  z_BMK = logits(1, 16, 4, 5, scale=1.0).astype(np.float32)
  z_BMK[..., 0] += 22
  log_p = log_softmax(z_BMK.astype(np.longdouble))
  log_mean = np.log(np.exp(log_p - log_p.max(1, keepdims=True)).mean(1)) + log_p.max(1)
  log_mean = log_mean - np.log(np.exp(log_mean).sum(-1, keepdims=True))
  total, data = -(np.exp(log_mean) * log_mean).sum(-1), -(np.exp(log_p) * log_p).sum(-1).mean(1)
  assert total.max() < 1e-6
  np.testing.assert_allclose(mixture(z_BMK).total(), total.astype(float), rtol=1e-5)
  np.testing.assert_allclose(mixture(z_BMK).data(), data.astype(float), rtol=1e-5)
  np.testing.assert_allclose(mixture(z_BMK).knowledge(), (total - data).astype(float), rtol=1e-4)


def test_mixture_keeps_digits_where_members_agree():
  z_BMK = logits(2, 16, 1, 5) + logits(3, 16, 4, 5, scale=1e-3)
  z_BMK = z_BMK.astype(np.float32)
  knowledge_B = mixture_uncertainties(z_BMK)[2]
  assert knowledge_B.max() < 1e-6
  np.testing.assert_allclose(mixture(z_BMK).knowledge(), knowledge_B, rtol=3e-3)


def test_mixture_of_certain_members():
  with np.errstate(divide='ignore'):
    log_p_BMK = np.log(np.float32([[[1, 0, 0], [0, 1, 0]], [[1, 0, 0], [1, 0, 0]]]))
  p = predictive.Mixture(jnp.asarray(log_p_BMK))
  np.testing.assert_allclose(p.total(), [np.log(2), 0], atol=1e-7)
  np.testing.assert_allclose(p.data(), [0, 0], atol=1e-7)
  np.testing.assert_allclose(p.knowledge(), [np.log(2), 0], atol=1e-7)
  np.testing.assert_array_equal(p.epkl(), [np.inf, 0])


@QUICK
@given(st.integers(0, 10**6), st.sampled_from([(1, 5), (4, 5)]), st.floats(0, 30))
def test_mixture_properties(seed, shape, scale):
  members, classes = shape
  z_BMK = logits(seed, 16, members, classes, scale=scale)
  total, data, knowledge, epkl = (np.asarray(a) for a in read(mixture(z_BMK)))
  assert (knowledge >= 0).all() and (data >= 0).all() and (epkl >= -1e-6).all()
  np.testing.assert_allclose(total, data + knowledge, atol=1e-5)
  assert (total <= np.log(classes) + 1e-5).all() and (knowledge <= np.log(members) + 1e-5).all()
  assert (epkl >= knowledge - 1e-5).all()
  if members == 1:
    assert (knowledge == 0).all() and (epkl == 0).all()
  for ours, permuted in zip((total, data, knowledge, epkl), read(mixture(z_BMK[:, ::-1]))):
    np.testing.assert_allclose(ours, permuted, atol=1e-5, rtol=1e-5)


def dirichlet_uncertainties(log_alpha_BK):
  alpha_BK = np.exp(log_alpha_BK.astype(np.float64))
  alpha0_B1 = alpha_BK.sum(-1, keepdims=True)
  p_BK = alpha_BK / alpha0_B1
  data_B = -(p_BK * (special.digamma(alpha_BK + 1) - special.digamma(alpha0_B1 + 1))).sum(-1)
  total_B = entropy(p_BK)
  return total_B, data_B, total_B - data_B, (alpha_BK.shape[-1] - 1) / alpha0_B1[:, 0]


@pytest.mark.parametrize('shift', [-6.0, 0.0, 3.0, 8.0])
def test_dirichlet_equals_the_definitions(shift):
  log_alpha_BK = (logits(4, 16, 5) + shift).astype(np.float32)
  p = predictive.Dirichlet(jnp.asarray(log_alpha_BK))
  for ours, theirs in zip(read(p), dirichlet_uncertainties(log_alpha_BK)):
    np.testing.assert_allclose(ours, theirs, atol=2e-6, rtol=1e-5)
  np.testing.assert_allclose(p.log_probs(), log_softmax(log_alpha_BK), atol=2e-6)


def test_dirichlet_expectations_by_sampling():
  alpha = np.array([2.0, 0.7, 5.0])
  p = predictive.Dirichlet(jnp.log(jnp.asarray(alpha)[None]))
  draws = np.random.default_rng(5).dirichlet(alpha, 400_000)
  np.testing.assert_allclose(p.data(), entropy(draws).mean(), atol=2e-3)
  a, b = draws[::2], draws[1::2]
  kl = special.rel_entr(a, b).sum(-1).mean()
  np.testing.assert_allclose(p.epkl(), kl, rtol=0.02)


def test_dirichlet_keeps_digits_of_a_sharp_one():
  """Total and data agree in all float32 digits there; knowledge is (K - 1) / (2 alpha_0)."""
  alpha = np.array([2.0, 3.0, 5.0]) * 1e8
  p = predictive.Dirichlet(jnp.log(jnp.asarray(alpha, jnp.float32)[None]))
  np.testing.assert_allclose(p.knowledge(), 2 / (2 * 1e9), rtol=1e-5)


@pytest.mark.parametrize('shift', [-60.0, 60.0, 200.0])
def test_dirichlet_at_the_ends(shift):
  p = predictive.Dirichlet(jnp.asarray(logits(6, 16, 5) + shift, jnp.float32))
  for value in read(p):
    assert (np.asarray(value) >= 0).all()
    assert np.isfinite(value).all()
  np.testing.assert_allclose(p.total(), p.data() + p.knowledge(), atol=1e-5)
  flat = p.data() if shift < 0 else p.knowledge()
  np.testing.assert_allclose(flat, 0, atol=1e-6)


def gaussians(seed, batch=16, members=4, targets=2):
  rng = np.random.default_rng(seed)
  mean_BMD = rng.normal(0, 2, (batch, members, targets)).astype(np.float32)
  log_var_BMD = rng.normal(-1, 1, (batch, members, targets)).astype(np.float32)
  return predictive.GaussianMixture(jnp.asarray(mean_BMD), jnp.asarray(log_var_BMD))


def test_gaussian_mixture_against_scipy():
  p, y_BD = gaussians(0), logits(1, 16, 2).astype(np.float32)
  mean_BMD, std_BMD = np.float64(p.mean_BMD), np.exp(np.float64(p.log_var_BMD) / 2)
  log_p_BM = stats.norm.logpdf(y_BD[:, None], mean_BMD, std_BMD).sum(-1)
  np.testing.assert_allclose(
    p.log_prob(y_BD), special.logsumexp(log_p_BM, 1) - np.log(4), rtol=1e-5, atol=1e-5
  )
  cdf_BD = stats.norm.cdf(y_BD[:, None], mean_BMD, std_BMD).mean(1)
  np.testing.assert_allclose(p.cdf(y_BD), cdf_BD, atol=1e-6)
  data_BD, knowledge_BD = (std_BMD**2).mean(1), mean_BMD.var(1)
  np.testing.assert_allclose(p.mean(), mean_BMD.mean(1), atol=1e-6)
  np.testing.assert_allclose(p.variance(), data_BD + knowledge_BD, rtol=1e-5)
  np.testing.assert_allclose(p.data(), data_BD.sum(-1), rtol=1e-5)
  np.testing.assert_allclose(p.knowledge(), knowledge_BD.sum(-1), rtol=1e-5)
  np.testing.assert_allclose(p.total(), p.data() + p.knowledge(), rtol=1e-6)


def test_gaussian_mixture_of_one_member_is_certain_of_its_mean():
  p = gaussians(2, members=1)
  assert (p.knowledge() == 0).all()
  z = special.ndtri(0.9)
  expected_BD = np.float64(p.mean_BMD)[:, 0] + z * np.exp(np.float64(p.log_var_BMD)[:, 0] / 2)
  np.testing.assert_allclose(p.quantile(0.9), expected_BD, rtol=1e-5, atol=1e-5)


def normal_wishart(seed, batch=16, targets=2, low=-3.0, high=3.0):
  rng = np.random.default_rng(seed)
  fields = [rng.normal(0, 1, (batch, targets)) for _ in range(2)]
  fields += [rng.uniform(low, high, (batch, targets)) for _ in range(2)]
  return predictive.NormalWishart(*(jnp.asarray(a, jnp.float32) for a in fields))


def student(p):
  """scipy's Student t with Malinin et al.'s parameters: 1 / L = (nu - 2) exp(log_var)."""
  log_var, log_kappa, log_dof = (
    np.float64(a) for a in (p.log_var_BD, p.log_kappa_BD, p.log_dof_BD)
  )
  nu, kappa = 2 + np.exp(log_dof), np.exp(log_kappa)
  inverse_l = (nu - 2) * np.exp(log_var)
  return stats.t(nu, np.float64(p.mean_BD), np.sqrt((kappa + 1) / (kappa * nu) * inverse_l))


def test_normal_wishart_predictive_against_scipy():
  p, y_BD = normal_wishart(0), logits(1, 16, 2).astype(np.float32)
  t = student(p)
  np.testing.assert_allclose(p.log_prob(y_BD), t.logpdf(y_BD).sum(-1), rtol=1e-5, atol=1e-5)
  np.testing.assert_allclose(p.cdf(y_BD), t.cdf(y_BD), atol=1e-6)
  np.testing.assert_allclose(p.variance(), t.var(), rtol=1e-5)
  for q in (0.025, 0.4, 0.5, 0.9):
    np.testing.assert_allclose(p.cdf(p.quantile(q)), q, atol=1e-6)
    np.testing.assert_allclose(p.quantile(q), t.ppf(q), rtol=2e-5, atol=2e-5)


def test_normal_wishart_is_the_mixture_of_its_draws():
  p = predictive.NormalWishart(*(jnp.full((1, 1), v) for v in (0.3, -0.5, 1.0, 2.0)))
  nu, kappa, data = 2 + np.exp(2.0), np.exp(1.0), np.exp(-0.5)
  rng = np.random.default_rng(2)
  precision = rng.gamma(nu / 2, 2 / ((nu - 2) * data), 400_000)
  mean = rng.normal(0.3, 1 / np.sqrt(kappa * precision))
  np.testing.assert_allclose(p.data(), (1 / precision).mean(), rtol=0.01)
  np.testing.assert_allclose(p.knowledge(), mean.var(), rtol=0.01)
  density = stats.norm.pdf(1.1, mean, precision**-0.5).mean()
  np.testing.assert_allclose(np.exp(p.log_prob(jnp.full((1, 1), 1.1))), density, rtol=0.01)


def test_normal_wishart_density_against_scipy():
  p, members = normal_wishart(3), gaussians(4)
  nu, kappa = 2 + np.exp(np.float64(p.log_dof_BD)), np.exp(np.float64(p.log_kappa_BD))
  rate = (nu - 2) * np.exp(np.float64(p.log_var_BD)) / 2
  log_var_BMD = np.float64(members.log_var_BMD)
  normal = stats.norm.logpdf(
    np.float64(members.mean_BMD),
    np.float64(p.mean_BD)[:, None],
    np.sqrt(np.exp(log_var_BMD) / kappa[:, None]),
  )
  gamma = stats.gamma.logpdf(np.exp(-log_var_BMD), nu[:, None] / 2, scale=1 / rate[:, None])
  ours = p.log_density(members.mean_BMD, members.log_var_BMD)
  np.testing.assert_allclose(ours, (normal + gamma).sum(-1), rtol=1e-5, atol=1e-4)


def test_normal_wishart_in_double_precision_to_nine_digits():
  """The density that is trained and the Student's t, without float32's rounding."""
  rng = np.random.default_rng(4)
  fields = (rng.normal(0, 1, (16, 1)) for _ in range(2)), rng.uniform(-3, 4, (2, 16, 1))
  p = predictive.NormalWishart(*fields[0], *fields[1])
  mu_BMD, log_var_BMD, y_BD = *rng.normal(0, 1, (2, 16, 4, 1)), rng.normal(0, 2, (16, 1))
  with jax.enable_x64(True):
    density, log_prob = p.log_density(mu_BMD, log_var_BMD), p.log_prob(y_BD)
  half = np.exp(p.log_dof_BD) / 2  # nu / 2 - 1
  shape, rate = half + 1, half * np.exp(p.log_var_BD)  # of the precision's Gamma
  gamma = stats.gamma.logpdf(np.exp(-log_var_BMD), shape[:, None], scale=1 / rate[:, None])
  std_BMD = np.exp((log_var_BMD - p.log_kappa_BD[:, None]) / 2)
  normal = stats.norm.logpdf(mu_BMD, p.mean_BD[:, None], std_BMD)
  np.testing.assert_allclose(density, (gamma + normal).sum(-1), rtol=1e-9, atol=1e-9)
  np.testing.assert_allclose(log_prob, student(p).logpdf(y_BD).sum(-1), rtol=1e-9, atol=1e-9)


@jax.jit
@partial(jax.value_and_grad, argnums=(0, 1))
def nll_and_gradients(log_kappa, log_dof):
  fields = (jnp.full((1, 1), v) for v in (0.3, -0.5, log_kappa, log_dof))
  return -predictive.NormalWishart(*fields).log_prob(jnp.full((1, 1), 0.8))[0]


@pytest.mark.parametrize('log_dof', [-60.0, -10.0, 10.0, 30.0, 60.0])
@pytest.mark.parametrize('log_kappa', [-60.0, 0.0, 60.0])
def test_normal_wishart_at_the_ends(log_dof, log_kappa):
  """Finite values and gradients; as nu grows the Student's t becomes the normal."""
  value, gradients = nll_and_gradients(log_kappa, log_dof)
  assert np.isfinite([value, *gradients]).all()
  if log_dof >= 30 and log_kappa >= 0:
    std = np.exp(-0.25) * np.sqrt(1 + np.exp(-log_kappa))
    np.testing.assert_allclose(value, -stats.norm.logpdf(0.8, 0.3, std), rtol=1e-5)


@pytest.mark.parametrize('nu', [2.0, 2.5, 7.99, 8.0, 100.0, 1e5, 1e9])
def test_student_cdf(nu):
  t = np.concatenate([np.linspace(-9, 9, 91), [-1e6, 1e6]]).astype(np.float32)
  ours = jax.jit(regression._student_cdf)(t, np.full_like(t, nu))
  np.testing.assert_allclose(ours, special.stdtr(np.float64(np.float32(nu)), t), atol=1e-6)


@pytest.mark.parametrize('make', [gaussians, normal_wishart])
def test_regression_quantiles_and_units(make):
  p = make(5)
  for q in (0.01, 0.5, 0.975):
    np.testing.assert_allclose(p.cdf(p.quantile(q)), q, atol=2e-6)
  low, high = p.interval(0.9)
  np.testing.assert_array_equal(low, p.quantile(0.05))
  assert (low < high).all()
  scale, shift = np.array([3.0, 0.1]), np.array([-1.0, 20.0])
  moved, y_BD = p.affine(scale, shift), logits(6, 16, 2)
  np.testing.assert_allclose(moved.mean(), p.mean() * scale[None] + shift[None], rtol=1e-5)
  np.testing.assert_allclose(moved.variance(), p.variance() * scale[None] ** 2, rtol=1e-5)
  np.testing.assert_allclose(
    moved.log_prob(y_BD * scale[None] + shift[None]),
    p.log_prob(y_BD) - np.log(scale).sum(),
    rtol=1e-4,
    atol=1e-4,
  )


CASES = [
  mixture(logits(7, 16, 4, 5)),
  predictive.Dirichlet(jnp.asarray(logits(8, 16, 5), jnp.float32)),
  gaussians(9),
  normal_wishart(10),
]


@pytest.mark.parametrize('p', CASES, ids=lambda p: type(p).__name__)
def test_distributions_pass_through_jit_and_tree_map(p):
  """Also with numpy fields: a distribution brought to the host still reads itself."""
  read_all = lambda p: (p.total(), p.data(), p.knowledge())
  host = jax.tree.map(np.asarray, p)
  for plain, jitted, numpy in zip(read_all(p), jax.jit(read_all)(p), read_all(host)):
    assert plain.shape == (16,)
    np.testing.assert_allclose(jitted, plain, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(numpy, plain, rtol=1e-6)
  turned = jax.tree.map(lambda a: a[::-1], p)
  np.testing.assert_allclose(turned.total(), p.total()[::-1], rtol=1e-6)
