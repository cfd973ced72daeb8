import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
import scipy.special
import scipy.stats

from ensdistill import families, predictive

categorical, gaussian = families.categorical, families.gaussian


def random(*shape, seed=0, scale=1.0):
  return (np.random.default_rng(seed).normal(size=shape) * scale).astype(np.float32)


@pytest.mark.parametrize('temperature', [1.0, 2.5, 4.0, 10.0])
@pytest.mark.parametrize('classes', [3, 1000])
def test_categorical_kl(temperature, classes):
  p, q = random(2, 6, 4, classes, scale=3).astype(np.float64)
  log_p, log_q = (scipy.special.log_softmax(z / temperature, -1) for z in (p, q))
  expected = temperature**2 * (np.exp(log_p) * (log_p - log_q)).sum(-1)
  np.testing.assert_allclose(jax.jit(categorical.kl)(p, q, temperature), expected, rtol=1e-5)


def test_categorical_kl_of_a_shift_is_zero():
  p = random(5, 3, 10)
  np.testing.assert_allclose(jax.jit(categorical.kl)(p, p + 7), 0, atol=1e-10)


def test_categorical_kl_gradient_of_confident_outputs_sums_to_zero():
  # The usual form loses the largest entry's gradient: -1e-24 among others of 1e-24.
  p, q = jnp.array([60.0, 0.0, 1.0]), jnp.array([60.0, 1.0, 0.0])
  gradient = np.asarray(jax.jit(jax.grad(categorical.kl, 1))(p, q), np.float64)
  expected = np.exp([1.0 - 60, 0.0 - 60]) - np.exp([0.0 - 60, 1.0 - 60])
  np.testing.assert_allclose(gradient[1:], expected, rtol=1e-5)
  assert abs(gradient[0] + gradient[1:].sum()) < 1e-6 * np.abs(gradient).max()


@pytest.mark.parametrize('temperature', [1.0, 4.0])
def test_categorical_mixture_has_the_mean_tempered_probabilities(temperature):
  outputs = random(5, 3, 10, scale=3)
  mixture = jax.jit(categorical.mixture)(outputs, temperature)
  assert mixture.shape == (5, 1, 10)
  np.testing.assert_allclose(
    scipy.special.softmax(mixture / temperature, -1)[:, 0],
    scipy.special.softmax(outputs / temperature, -1).mean(1),
    rtol=1e-5,
  )


def test_categorical_label_loss_is_the_mean_over_members_and_skips_missing_labels():
  outputs, labels = random(4, 3, 5), jnp.array([2, -1, 0, 4])
  log_probs = scipy.special.log_softmax(outputs, -1)
  expected = [-log_probs[i, :, k].mean() if k >= 0 else 0 for i, k in enumerate(labels)]
  np.testing.assert_allclose(jax.jit(categorical.label_loss)(outputs, labels), expected, rtol=1e-6)
  gradient = jax.jit(jax.grad(lambda z: categorical.label_loss(z, labels).sum()))(outputs)
  assert (gradient[1] == 0).all() and (gradient[0] != 0).all()


def test_categorical_prediction_and_predictive():
  outputs = random(4, 3, 5)
  expected = scipy.special.softmax(outputs / 2, -1)
  np.testing.assert_allclose(categorical.prediction(outputs, 2.0), expected, rtol=1e-5)
  mixture = categorical.predictive(outputs)
  assert isinstance(mixture, predictive.Mixture)
  expected = scipy.special.softmax(outputs, -1).mean(1)
  np.testing.assert_allclose(jnp.exp(mixture.log_probs()), expected, rtol=1e-5)


@pytest.mark.parametrize('temperature', [1.0, 2.5])
def test_gaussian_kl_is_the_integral_of_the_tempered_densities(temperature):
  p, q = np.array([0.3, -0.4]), np.array([-0.5, 0.7])

  def log_density(outputs, x):  # p^(1/T), renormalised
    sd = np.exp(outputs[1] / 2) * np.sqrt(temperature)
    return scipy.stats.norm.logpdf(x, outputs[0], sd)

  def integrand(x):
    return np.exp(log_density(p, x)) * (log_density(p, x) - log_density(q, x))

  expected = temperature**2 * scipy.integrate.quad(integrand, -30, 30, epsabs=1e-12)[0]
  kl = jax.jit(gaussian.kl)(jnp.float32(p), jnp.float32(q), temperature)
  np.testing.assert_allclose(kl, expected, rtol=1e-5)


def test_tempering_a_gaussian_is_its_density_to_the_power():
  x = np.linspace(-3, 3, 7)
  ratio = scipy.stats.norm.logpdf(x, 0.2, 1.3) / 4 - scipy.stats.norm.logpdf(x, 0.2, 1.3 * 2)
  np.testing.assert_allclose(ratio, ratio[0], rtol=1e-10)


def test_gaussian_kl_sums_over_targets_as_the_paper_writes_it():
  p, q = random(6, 4, 6), random(6, 4, 6, seed=1)
  mean_p, sd_p = p[..., :3].astype(np.float64), np.exp(p[..., 3:].astype(np.float64) / 2)
  mean_q, sd_q = q[..., :3].astype(np.float64), np.exp(q[..., 3:].astype(np.float64) / 2)
  expected = np.log(sd_q / sd_p) + (sd_p**2 + (mean_p - mean_q) ** 2) / (2 * sd_q**2) - 0.5
  np.testing.assert_allclose(jax.jit(gaussian.kl)(p, q), expected.sum(-1), rtol=1e-5)


def test_kl_in_double_precision_to_nine_digits():
  """The formulas themselves, without float32's rounding: integrated, and summed over classes."""
  p, q = (random(2, seed=seed).astype(np.float64) for seed in (0, 1))
  kl = {name: jax.jit(family.kl) for name, family in families.FAMILIES.items()}
  for temperature in (1.0, 2.5):
    with jax.enable_x64(True):
      found = {name: float(of(p, q, temperature)) for name, of in kl.items()}
    f, g = (scipy.stats.norm(z[0], np.exp(z[1] / 2) * np.sqrt(temperature)) for z in (p, q))

    def integrand(x, f=f, g=g):
      return f.pdf(x) * (f.logpdf(x) - g.logpdf(x))

    integral = scipy.integrate.quad(integrand, -30, 30, epsabs=1e-12, limit=200)[0]
    assert found['gaussian'] == pytest.approx(temperature**2 * integral, rel=1e-9)
    a, b = (scipy.special.softmax(z / temperature) for z in (p, q))
    summed = scipy.special.rel_entr(a, b).sum()
    assert found['categorical'] == pytest.approx(temperature**2 * summed, rel=1e-9)


@pytest.mark.parametrize('temperature', [1.0, 4.0])
def test_gaussian_mixture_has_the_tempered_mixtures_moments(temperature):
  outputs = random(5, 3, 4)
  mixture = jax.jit(gaussian.mixture)(outputs, temperature)
  assert mixture.shape == (5, 1, 4)
  mean, var = outputs[..., :2], temperature * np.exp(outputs[..., 2:])
  second = (var + mean**2).mean(1)
  np.testing.assert_allclose(mixture[:, 0, :2], mean.mean(1), atol=1e-6)
  np.testing.assert_allclose(
    temperature * np.exp(mixture[:, 0, 2:]), second - mean.mean(1) ** 2, rtol=1e-5
  )


def test_gaussian_label_loss_is_the_negative_log_density_and_skips_nan():
  outputs, y = random(4, 3, 4), random(4, 2, seed=1)
  y[1], y[2, 0] = np.nan, np.nan
  density = scipy.stats.norm.logpdf(y[:, None], outputs[..., :2], np.exp(outputs[..., 2:] / 2))
  expected = -np.where(np.isnan(y)[:, None], 0, density).sum(-1).mean(1)
  np.testing.assert_allclose(jax.jit(gaussian.label_loss)(outputs, y), expected, rtol=1e-5)
  gradient = jax.jit(jax.grad(lambda z: gaussian.label_loss(z, y).sum()))(outputs)
  assert jnp.isfinite(gradient).all() and (gradient[1] == 0).all()


def test_gaussian_predictive():
  outputs = random(4, 3, 4)
  mixture = gaussian.predictive(outputs)
  assert isinstance(mixture, predictive.GaussianMixture)
  np.testing.assert_allclose(mixture.mean(), outputs[..., :2].mean(1), atol=1e-6)
  expected = np.exp(outputs[..., 2:]).mean(1) + outputs[..., :2].var(1)
  np.testing.assert_allclose(mixture.variance(), expected, rtol=1e-5)


@pytest.mark.parametrize('name', ['categorical', 'gaussian'])
def test_extreme_outputs_stay_finite(name):
  family = families.FAMILIES[name]
  p, q = 100 * np.sign(random(2, 4, 3, 10))
  labels = jnp.arange(4) if name == 'categorical' else jnp.full((4, 5), 50.0)

  def losses(q):
    values = (
      family.kl(p, q),
      family.kl(family.mixture(p), family.mixture(q)),
      family.kl(q, q),
      family.label_loss(q, labels),
    )
    return sum(value.sum() for value in values), values

  (_, values), gradient = jax.jit(jax.value_and_grad(losses, has_aux=True))(q)
  assert all(jnp.isfinite(value).all() for value in values)
  assert jnp.isfinite(gradient).all()


def test_width():
  assert categorical.width(7) == 7
  assert gaussian.width(7) == 14


def test_categorical_scores_ignore_missing_labels():
  outputs, labels = random(5, 3, 4, scale=2), jnp.array([2, -1, 0, 3, -1])
  known = np.array([0, 2, 3])
  found = jax.jit(categorical.scores)(categorical.predictive(outputs), labels)
  assert set(found) == set(categorical.score_names)
  probs = scipy.special.softmax(outputs, -1)[known]
  y = np.asarray(labels)[known]
  nll = -np.log(probs.mean(1)[np.arange(3), y]).mean()
  np.testing.assert_allclose(found['nll'], nll, rtol=1e-5)
  assert found['acc'] == (probs.mean(1).argmax(-1) == y).mean(dtype=np.float32)
  np.testing.assert_allclose(found['member_acc'], (probs.argmax(-1) == y[:, None]).mean())


def test_categorical_scores_of_one_distribution_have_its_accuracy_twice():
  student, labels = predictive.Dirichlet(random(6, 4, scale=3)), jnp.arange(6) % 4
  found = categorical.scores(student, labels)
  assert found['member_acc'] == found['acc'] == (student.log_probs().argmax(-1) == labels).mean()


def test_gaussian_scores_are_the_joint_density_and_the_root_mean_squared_error():
  outputs, y = random(6, 1, 4), random(6, 2, seed=1)
  found = jax.jit(gaussian.scores)(gaussian.predictive(outputs), y)
  assert set(found) == set(gaussian.score_names)
  mean, std = outputs[:, 0, :2], np.exp(outputs[:, 0, 2:] / 2)
  density = scipy.stats.norm.logpdf(y, mean, std).sum(-1)
  np.testing.assert_allclose(found['nll'], -density.mean(), rtol=1e-5)
  np.testing.assert_allclose(found['rmse'], np.sqrt(((mean - y) ** 2).mean()), rtol=1e-5)


def test_standardised_targets_return_to_their_units():
  """Labels have no unit; the mean and std of targets far from zero are subtracted in float64."""
  labels = np.arange(3)
  assert categorical.standardise(labels, (5.0,), (2.0,)) is labels
  mixture = categorical.predictive(random(3, 2, 4))
  assert mixture.in_units((5.0,), (2.0,)) is mixture
  y = np.array([[1e9 + 1, 4.0], [1e9 - 1, 0.0]])
  found = gaussian.standardise(y, (1e9, 2.0), (2.0, 4.0))
  assert found.dtype == np.float32
  np.testing.assert_array_equal(found, [[0.5, 0.5], [-0.5, -0.5]])
  outputs = np.concatenate([found, np.zeros_like(found)], -1)[:, None]
  own = gaussian.predictive(outputs).in_units((1e9, 2.0), (2.0, 4.0))
  np.testing.assert_allclose(own.mean(), y, rtol=1e-7)
  np.testing.assert_allclose(own.variance(), [[4.0, 16.0]] * 2, rtol=1e-6)


@pytest.mark.parametrize('family, y', [('categorical', [0, 1]), ('gaussian', [[0.5], [1.0]])])
def test_a_family_is_found_by_the_type_of_the_targets(family, y):
  found = families.of_targets(np.asarray(y))
  assert found is families.FAMILIES[family]
  assert found.has_classes == (family == 'categorical')
