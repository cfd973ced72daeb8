import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats

from ensdistill import families, objectives, predictive
from ensdistill.objectives import classification, matching

CLASSES = [3, 10, 100, 1000]
TEMPERATURES = [1.0, 2.5, 4.0, 10.0]
B, M = 5, 4
categorical, gaussian = families.categorical, families.gaussian
psi, lgamma = scipy.special.digamma, scipy.special.gammaln


def logits(classes, seed=0, members=M, scale=2.0):
  return (np.random.default_rng(seed).normal(size=(B, members, classes)) * scale).astype(np.float32)


@functools.cache
def value_and_gradient(function, **settings):
  return jax.jit(jax.value_and_grad(functools.partial(function, **settings)))


def check(function, z, t, expected, expected_gradient, *arguments, rtol=1e-5, **settings):
  """Value to 1e-5 relative; gradient to rtol of its norm, and of the largest entry throughout."""
  value, gradient = value_and_gradient(function, **settings)(z, t, *arguments)
  np.testing.assert_allclose(value, expected, rtol=1e-5)
  gradient = np.asarray(gradient, np.float64)
  size = np.linalg.norm(expected_gradient)
  assert np.linalg.norm(gradient - expected_gradient) < rtol * size
  assert np.abs(gradient - expected_gradient).max() < rtol * np.abs(expected_gradient).max()


# ---- independent float64 computations: values, and gradients by hand


def softmax_64(z, temperature=1.0):
  return scipy.special.softmax(z.astype(np.float64) / temperature, -1)


def members_64(z, t, temperature):
  p, q = softmax_64(t, temperature), softmax_64(z, temperature)
  value = temperature**2 * (p * np.log(p / q)).sum(-1).mean()
  return value, temperature * (q - p) / (B * z.shape[1])


def mean_64(z, t, temperature):
  p, q_m = softmax_64(t, temperature).mean(1), softmax_64(z, temperature)
  q = q_m.mean(1)
  value = temperature**2 * (p * np.log(p / q)).sum(-1).mean()
  pull = (-p / q)[:, None] * q_m  # d/dq_m through the mean, then through each softmax
  gradient = pull - q_m * pull.sum(-1, keepdims=True)
  return value, temperature * gradient / (B * z.shape[1])


def dirichlet_64(z, t, temperature, smoothing=1e-3):
  alpha = np.exp(z[:, 0].astype(np.float64) / temperature)
  alpha_0, classes = alpha.sum(-1, keepdims=True), alpha.shape[-1]
  pi = (1 - smoothing) * (softmax_64(t, temperature) - 1 / classes) + 1 / classes
  mean_log = np.log(pi).mean(1)
  loss = lgamma(alpha).sum(-1) - lgamma(alpha_0[:, 0]) - ((alpha - 1) * mean_log).sum(-1)
  gradient = temperature * alpha * (psi(alpha) - psi(alpha_0) - mean_log)
  return temperature**2 * loss.mean(), gradient[:, None] / B


def proxy_64(z, t, form):
  e = np.exp(z[:, 0].astype(np.float64))
  alpha, pi_m = e + 1, softmax_64(t)
  pi, classes = pi_m.mean(1), e.shape[-1]
  mkl = (pi[:, None] * np.log(pi[:, None] / pi_m)).sum(-1).mean(1, keepdims=True)
  beta_0 = (classes - 1) / (2 * mkl)
  beta, total = pi * beta_0 + 1, beta_0 + classes
  alpha_0 = alpha.sum(-1, keepdims=True)
  trigamma = lambda a: scipy.special.polygamma(1, a)
  if form == 'forward':  # KL = -H[Dir(beta)] - E_beta ln Dir(.; alpha)
    entropy = np.array([scipy.stats.dirichlet.entropy(b) for b in beta])
    log_means = psi(beta) - psi(total)
    log_norm = lgamma(alpha_0[:, 0]) - lgamma(alpha).sum(-1)
    loss = -entropy - log_norm - ((alpha - 1) * log_means).sum(-1)
    gradient = psi(alpha) - psi(alpha_0) - log_means
  else:
    entropy = np.array([scipy.stats.dirichlet.entropy(a) for a in alpha])
    loss = -(pi * (psi(alpha) - psi(alpha_0))).sum(-1) - entropy / total[:, 0]
    d_entropy = (alpha_0 - classes) * trigamma(alpha_0) - (alpha - 1) * trigamma(alpha)
    gradient = trigamma(alpha_0) - pi * trigamma(alpha) - d_entropy / total
  return loss.mean(), (gradient * e)[:, None] / B


@pytest.mark.parametrize('classes', CLASSES)
@pytest.mark.parametrize('temperature', TEMPERATURES)
def test_members_mean_and_dirichlet_agree_with_float64(classes, temperature):
  z, t = logits(classes), logits(classes, 1)
  check(objectives.members, z, t, *members_64(z, t, temperature), temperature)
  if classes == 10:  # mixture against mixture
    check(objectives.mean, z, t, *mean_64(z, t, temperature), temperature)
  z = z[:, :1]
  check(objectives.mean, z, t, *mean_64(z, t, temperature), temperature)
  check(objectives.dirichlet, z, t, *dirichlet_64(z, t, temperature), temperature, 1e-3)


@pytest.mark.parametrize('classes', CLASSES)
@pytest.mark.parametrize('form', ['reverse', 'forward'])
def test_proxy_dirichlet_agrees_with_its_definition(classes, form):
  z, t = logits(classes, members=1), logits(classes, 1)
  check(objectives.proxy_dirichlet, z, t, *proxy_64(z, t, form), form=form)


def test_hand_gradients_agree_with_finite_differences():
  z, t, step = logits(3).astype(np.float64), logits(3, 1), 1e-6
  one = z[:, :1]
  for function, z in (
    (lambda z: members_64(z, t, 2.5), z),
    (lambda z: mean_64(z, t, 2.5), z),
    (lambda z: dirichlet_64(z, t, 2.5), one),
    (lambda z: proxy_64(z, t, 'reverse'), one),
    (lambda z: proxy_64(z, t, 'forward'), one),
  ):
    gradient = np.zeros_like(z)
    for index in np.ndindex(z.shape):
      move = np.zeros_like(z)
      move[index] = step
      gradient[index] = (function(z + move)[0] - function(z - move)[0]) / (2 * step)
    np.testing.assert_allclose(function(z)[1], gradient, rtol=1e-6, atol=1e-8)


def test_dirichlet_is_scipys_log_density():
  z, t, temperature = logits(10, members=1), logits(10, 1), 2.5
  pi = 0.99 * softmax_64(t, temperature) + 0.01 / 10
  alpha = np.exp(z[:, 0].astype(np.float64) / temperature)
  expected = -np.mean(
    [[scipy.stats.dirichlet.logpdf(p, a) for p in members] for members, a in zip(pi, alpha)]
  )
  value, _ = value_and_gradient(objectives.dirichlet)(z, t, temperature, 0.01)
  np.testing.assert_allclose(value, temperature**2 * expected, rtol=1e-5)


@pytest.mark.parametrize('precision', [1e4, 1e6])
def test_a_runaway_precision_costs_the_dirichlet_no_digits(precision):
  # Members that agree: lnGamma(alpha_0) is 1e7 and the loss -100, lost in the textbook's form.
  t = logits(10, 1, members=1) + logits(10, 2, scale=1e-2)
  z = (t.mean(1, keepdims=True) + np.log(precision)).astype(np.float32)
  value, gradient = dirichlet_64(z, t, 1.0)
  # log pi itself, in float32, is no closer than 2e-7 to members that lie 1e-2 apart.
  check(objectives.dirichlet, z, t, value, gradient, 1.0, 1e-3, rtol=1e-4)


def extremes(classes):
  labels = np.arange(B)[:, None] % classes
  one_hot = np.where(np.arange(classes) == labels, 100.0, -100.0)[:, None]
  random = 100 * np.sign(logits(classes, 3))
  yield 'one-hot members that agree', np.repeat(one_hot, M, 1)
  yield 'one-hot members that differ', np.stack([np.roll(one_hot[:, 0], m, 0) for m in range(M)], 1)
  yield 'identical members', np.repeat(logits(classes, 4, members=1), M, 1)
  yield 'random signs', random


REVERSE = functools.partial(classification.proxy_dirichlet_loss, form='reverse')
FORWARD = functools.partial(classification.proxy_dirichlet_loss, form='forward')


@pytest.mark.parametrize(
  'loss,size,temperature',
  [
    (matching.mean_loss, 1, True),
    (matching.mean_loss, M, True),
    (matching.members_loss, M, True),
    (classification.dirichlet_loss, 1, True),
    (REVERSE, 1, False),
    (FORWARD, 1, False),
  ],
  ids=['mean', 'mean of members', 'members', 'dirichlet', 'reverse', 'forward'],
)
def test_extreme_logits_give_finite_losses_logs_and_gradients(loss, size, temperature):
  def batch_loss(z, t, *arguments):
    loss_B, logs = loss(categorical, z, t, *arguments)
    return loss_B.sum(), (loss_B, logs)

  step = jax.jit(jax.value_and_grad(batch_loss, has_aux=True))
  teachers = dict(extremes(1000))
  students = [np.full((B, size, 1000), fill) for fill in (100.0, -100.0, 0.0, 59.0, -59.0)]
  students.append(100 * np.sign(logits(1000, 5, size)))
  pairs = [(z, t) for t in teachers.values() for z in [*students, t[:, :size]]]
  z, t = (np.concatenate(side).astype(np.float32) for side in zip(*pairs))
  for arguments in [(1.0,), (10.0,)] if temperature else [()]:
    (_, (loss_B, logs)), gradient = step(z, t, *arguments)
    assert jnp.isfinite(loss_B).all()
    assert jnp.isfinite(gradient).all()
    assert all(jnp.isfinite(value).all() for value in logs.values()), logs


def test_a_student_equal_to_its_teacher_has_nothing_to_learn():
  t = logits(10)
  for function, z in (
    (objectives.members, t),
    (objectives.mean, t[:, ::-1]),  # a mixture has no order
    (objectives.mean, categorical.mixture(t, 2.5)),
  ):
    value, gradient = value_and_gradient(function)(jnp.asarray(z), t, 2.5)
    np.testing.assert_allclose(value, 0, atol=1e-6)
    np.testing.assert_allclose(gradient, 0, atol=1e-6)


def test_one_member_on_each_side_makes_mean_and_members_the_same():
  z, t = logits(10, members=1), logits(10, 1, members=1)
  mean, members = (
    value_and_gradient(f)(z, t, 4.0)[0] for f in (objectives.mean, objectives.members)
  )
  np.testing.assert_allclose(mean, members, rtol=1e-6)


def test_members_refuses_other_sizes_instead_of_broadcasting():
  with pytest.raises(ValueError, match='the student has 1, the teacher 4'):
    objectives.members(logits(10, members=1), logits(10))
  with pytest.raises(ValueError, match='student of one member, not 4'):
    objectives.dirichlet(logits(10), logits(10))


def test_mean_and_members_serve_regression():
  z, t = logits(4), logits(4, 1)
  split = lambda o: (o[..., :2].astype(np.float64), np.exp(o[..., 2:].astype(np.float64)))

  def kl(p, q):
    (m_p, v_p), (m_q, v_q) = p, q
    return (0.5 * (np.log(v_q / v_p) + (v_p + (m_p - m_q) ** 2) / v_q - 1)).sum(-1)

  def mixture(o):
    m, v = split(o)
    return m.mean(1), v.mean(1) + m.var(1)

  for name, expected in (
    ('members', kl(split(t), split(z))),
    ('mean', kl(mixture(t), mixture(z))),
  ):
    loss = functools.partial(getattr(objectives, name), family=gaussian)
    np.testing.assert_allclose(jax.jit(loss)(z, t), expected.mean(), rtol=1e-5)
    with jax.enable_x64(True):  # without float32's rounding
      ours = loss(jnp.asarray(z, jnp.float64), jnp.asarray(t, jnp.float64))
    np.testing.assert_allclose(ours, expected.mean(), rtol=1e-9)


# ---- labels alone: the Prior Network


def test_prior_network_is_the_reverse_kl_to_its_targets():
  z, labels = logits(5, members=1), np.array([0, 2, -1, 4, -1])
  alpha = np.exp(z[:, 0].astype(np.float64))
  target = 1 + 100.0 * (np.arange(5) == labels[:, None])
  log_means = psi(alpha) - psi(alpha.sum(-1, keepdims=True))
  log_norm = lgamma(target.sum(-1)) - lgamma(target).sum(-1)
  entropy = np.array([scipy.stats.dirichlet.entropy(a) for a in alpha])
  kl = -entropy - log_norm - ((target - 1) * log_means).sum(-1)
  expected = kl * np.where(labels < 0, 0.5, 1)
  objective = objectives.make('prior_network', aux_weight=0.5)
  assert objective.loss is None
  loss = jax.jit(functools.partial(objective.label_loss, categorical))
  np.testing.assert_allclose(loss(z, labels), expected, rtol=1e-5)
  np.testing.assert_allclose(loss(np.log(target)[:, None], labels), 0, atol=1e-4)


def test_prior_network_is_finite_for_extreme_logits():
  labels = jnp.array([0, 1, 2, -1, -1])
  step = jax.jit(jax.value_and_grad(objectives.prior_network))
  for z in (100.0, -100.0, 100 * np.sign(logits(10, members=1))):
    value, gradient = step(jnp.full((B, 1, 10), z, jnp.float32), labels)
    assert jnp.isfinite(value) and jnp.isfinite(gradient).all()


# ---- regression: the Normal-Wishart


def normal_wishart_64(outputs, t):
  """-mean log NW(mu_m, Lambda_m), and its parts, from scipy's normal and gamma densities."""
  m, log_var, log_kappa, log_dof = np.split(outputs[:, :1].astype(np.float64), 4, -1)
  nu = 2 + np.exp(log_dof)
  scale = 1 / ((nu - 2) * np.exp(log_var))  # L
  mu, precision = t[..., :2].astype(np.float64), np.exp(-t[..., 2:].astype(np.float64))
  density = scipy.stats.gamma.logpdf(precision, nu / 2, scale=2 * scale)
  density += scipy.stats.norm.logpdf(mu, m, np.exp(-log_kappa / 2) / np.sqrt(precision))
  return -density.sum(-1).mean()


def test_normal_wishart_is_the_density_of_the_members_and_its_gradient():
  z, t = logits(8, members=1, scale=1.0), logits(4, 1, scale=1.0)
  gradient, step = np.zeros(z.shape), 1e-6
  for index in np.ndindex(z.shape):
    move = np.zeros(z.shape)
    move[index] = step
    gradient[index] = (normal_wishart_64(z + move, t) - normal_wishart_64(z - move, t)) / (2 * step)
  check(objectives.normal_wishart, z, t, normal_wishart_64(z, t), gradient)


def test_normal_wishart_recovers_the_distribution_that_its_members_came_from():
  # 4000 members drawn from a Normal-Wishart: the loss is least at its parameters.
  rng = np.random.default_rng(0)
  m, log_var, kappa, dof = 0.5, -0.3, 4.0, 6.0
  precision = rng.gamma((dof + 2) / 2, 2 / (dof * np.exp(log_var)), 4000)
  mu = rng.normal(m, 1 / np.sqrt(kappa * precision))
  t = jnp.float32(np.stack([mu, -np.log(precision)], -1))[None]
  z = jnp.float32([m, log_var, np.log(kappa), np.log(dof)])[None, None]
  gradient = value_and_gradient(objectives.normal_wishart)(z, t)[1]
  np.testing.assert_allclose(gradient, 0, atol=0.06)


def test_normal_wishart_labels_are_scored_by_the_student_t_and_nan_is_none():
  z, y = logits(8, members=1, scale=1.0), logits(2, 1, members=1)[:, 0]
  y[0], y[1, 1] = np.nan, np.nan
  m, log_var, log_kappa, log_dof = np.split(z[:, 0].astype(np.float64), 4, -1)
  nu = 2 + np.exp(log_dof)
  scale = np.sqrt((np.exp(log_kappa) + 1) * (nu - 2) * np.exp(log_var) / (np.exp(log_kappa) * nu))
  density = scipy.stats.t.logpdf(y, nu, m, scale)
  expected = -np.where(np.isnan(y), 0, density).sum(-1)
  objective = objectives.make('normal_wishart', start=0.0)
  loss, pull_back = jax.vjp(jax.jit(lambda z: objective.label_loss(gaussian, z, y)), z)
  np.testing.assert_allclose(loss, expected, rtol=1e-5, atol=1e-6)
  (gradient,) = pull_back(jnp.ones(B))
  assert jnp.isfinite(gradient).all() and (gradient[0] == 0).all()


def test_normal_wishart_is_finite_for_extreme_outputs():
  objective = objectives.make('normal_wishart')

  def loss(z, t, y):
    loss_B, logs = objective.loss(gaussian, z, t)
    return (loss_B + objective.label_loss(gaussian, z, y)).mean(), logs

  step = jax.jit(jax.value_and_grad(loss, has_aux=True))
  y = jnp.full((B, 2), 50.0)
  for z in (np.full((B, 1, 8), 100.0), np.full((B, 1, 8), -100.0), 100 * np.sign(logits(8, 5, 1))):
    for _, t in extremes(4):
      (value, logs), gradient = step(jnp.float32(z), jnp.float32(t), y)
      assert all(jnp.isfinite(x).all() for x in (value, gradient, *logs.values())), logs


# ---- what an objective owns


def test_dirichlets_temperature_is_held_then_falls_to_one_and_stays():
  schedule = objectives.make('dirichlet').schedule
  epochs = np.array([0, 15, 30, 45, 60, 75, 89]) / 90
  values = [float(schedule(jnp.float32(p))['temperature']) for p in epochs]
  np.testing.assert_allclose(values, [10, 10, 10, 5.5, 1, 1, 1], rtol=1e-5)
  schedule = objectives.make('dirichlet', temperature=3.0, held=0.5, end=0.5).schedule
  assert [float(schedule(p)['temperature']) for p in (0.4, 0.6)] == [3, 1]
  assert objectives.make('members').schedule(0.5) == {}


def test_every_term_is_logged_and_the_terms_add_up_to_the_loss():
  z, t = logits(10, members=1), logits(10, 1)
  z[0, 0, 0] = 700.0
  for name, terms in (('dirichlet', ('fit', 'rest')), ('proxy_dirichlet', ('fit', 'rest'))):
    values = {'temperature': 10.0} if name == 'dirichlet' else {}
    loss = functools.partial(objectives.make(name).loss, categorical)
    loss_B, logs = jax.jit(loss)(z, t, **values)
    assert loss_B.shape == (B,)
    np.testing.assert_allclose(sum(logs[term] for term in terms), loss_B, rtol=1e-5)
    np.testing.assert_allclose(logs['clipped'], 1 / z.size, rtol=1e-6)
    alpha = np.exp(z[1:, 0].astype(np.float64)) + (name == 'proxy_dirichlet')
    np.testing.assert_allclose(logs['log_precision'][1:], np.log(alpha.sum(-1)), rtol=1e-5)
    p = alpha / alpha.sum(-1, keepdims=True)
    data = (p * (psi(alpha.sum(-1, keepdims=True) + 1) - psi(alpha + 1))).sum(-1)
    knowledge = scipy.stats.entropy(p, axis=-1) - data
    np.testing.assert_allclose(logs['knowledge'][1:], knowledge, rtol=1e-4)
  p = softmax_64(t)
  knowledge = scipy.stats.entropy(p.mean(1), axis=-1) - scipy.stats.entropy(p, axis=-1).mean(1)
  np.testing.assert_allclose(logs['teacher_knowledge'], knowledge, rtol=1e-4)


def test_members_log_the_knowledge_of_both_sides():
  z, t = logits(10), logits(10, 1)
  objective = objectives.make('members', temperature=4.0)
  _, logs = jax.jit(functools.partial(objective.loss, categorical))(z, t)
  for name, outputs in (('knowledge', z), ('teacher_knowledge', t)):
    p = softmax_64(outputs)
    expected = scipy.stats.entropy(p.mean(1), axis=-1) - scipy.stats.entropy(p, axis=-1).mean(1)
    np.testing.assert_allclose(logs[name], expected, rtol=1e-4)


def test_settings_reach_the_loss():
  def both(z, t):
    one = z[:, :1]
    made = lambda name, z, **settings: objectives.make(name, **settings).loss(categorical, z, t)
    return (
      (made('mean', z, temperature=4.0), objectives.mean(z, t, 4.0)),
      (made('mean', z), objectives.mean(z, t)),
      (made('members', z, temperature=4.0), objectives.members(z, t, 4.0)),
      (made('dirichlet', one, smoothing=0.1), objectives.dirichlet(one, t, smoothing=0.1)),
      (made('proxy_dirichlet', one, form='forward'), objectives.proxy_dirichlet(one, t, 'forward')),
    )

  values = []
  for (loss_B, _), expected in jax.jit(both)(logits(10), logits(10, 1)):
    np.testing.assert_allclose(loss_B.mean(), expected, rtol=1e-6)
    values.append(float(expected))
  assert len(set(np.round(values, 4))) == 5  # each setting matters


def test_the_proxys_alpha_is_exp_z_plus_one_at_inference_too():
  z, labels = logits(10, members=1), jnp.array([3, 1, -1, 0, 9])
  objective = objectives.make('proxy_dirichlet')
  alpha = np.exp(z[:, 0].astype(np.float64)) + 1
  probs = alpha / alpha.sum(-1, keepdims=True)
  predicted = objective.predictive(categorical, z)
  np.testing.assert_allclose(jnp.exp(predicted.log_probs()), probs, rtol=1e-5)
  np.testing.assert_allclose(jnp.exp(predicted.log_alpha_BK), alpha, rtol=1e-5)
  expected = np.where(labels >= 0, -np.log(probs[np.arange(B), labels]), 0)
  np.testing.assert_allclose(objective.label_loss(categorical, z, labels), expected, rtol=1e-5)


@pytest.mark.parametrize(
  'name,family,kind',
  [
    ('none', categorical, predictive.Mixture),
    ('mean', categorical, predictive.Mixture),
    ('members', gaussian, predictive.GaussianMixture),
    ('dirichlet', categorical, predictive.Dirichlet),
    ('proxy_dirichlet', categorical, predictive.Dirichlet),
    ('prior_network', categorical, predictive.Dirichlet),
    ('normal_wishart', gaussian, predictive.NormalWishart),
  ],
)
def test_each_objective_predicts_in_its_own_way(name, family, kind):
  objective = objectives.make(name)
  width = objective.width(family, 3)
  assert width == {'normal_wishart': 12}.get(name, 3 if family is categorical else 6)
  predicted = objective.predictive(family, logits(width, members=1))
  assert isinstance(predicted, kind)
  assert predicted.total().shape == (B,)
  if family is categorical and name != 'proxy_dirichlet':
    expected = scipy.special.log_softmax(logits(width, members=1)[:, 0], -1)
    np.testing.assert_allclose(predicted.log_probs(), expected, rtol=1e-5)


def test_what_does_not_fit_says_what_to_set():
  fits = {name: objectives.make(name).fits for name in objectives.OBJECTIVES}
  for name in ('none', 'mean'):
    for family in families.FAMILIES:
      for kind, size in (('single', 1), ('multi_head', 4)):
        assert fits[name](family, kind, size, 4) is None
        assert fits[name](family, kind, size, 1) is None
  assert fits['members']('categorical', 'batch_ensemble', 4, 4) is None
  assert "objective.name='mean'" in fits['members']('categorical', 'single', 1, 4)
  assert 'has 3 and the teacher 4' in fits['members']('gaussian', 'multi_head', 3, 4)
  for name in ('dirichlet', 'proxy_dirichlet'):
    assert fits[name]('categorical', 'single', 1, 4) is None
    assert "student.kind='single'" in fits[name]('categorical', 'batch_ensemble', 4, 4)
    assert "objective.name='normal_wishart'" in fits[name]('gaussian', 'single', 1, 4)
    assert 'teacher.members' in fits[name]('categorical', 'single', 1, 1)
  assert fits['normal_wishart']('gaussian', 'single', 1, 4) is None
  assert "objective.name='dirichlet'" in fits['normal_wishart']('categorical', 'single', 1, 4)
  assert fits['prior_network']('categorical', 'single', 1, 1) is None
  assert 'multi_head' in fits['prior_network']('categorical', 'multi_head', 4, 4)


def test_unknown_names_and_bad_settings_are_refused():
  with pytest.raises(ValueError, match="unknown objective 'dirichelt': did you mean 'dirichlet'"):
    objectives.make('dirichelt')
  with pytest.raises(ValueError, match="setting of objective 'none' 'temperature'"):
    objectives.make('none', temperature=2.0)
  for name, settings in (
    ('mean', {'temperature': 0.0}),
    ('dirichlet', {'temperature': -1.0}),
    ('dirichlet', {'smoothing': 1.0}),
    ('dirichlet', {'held': 0.7, 'end': 0.6}),
    ('proxy_dirichlet', {'form': 'backward'}),
    ('prior_network', {'beta': 0.0}),
    ('prior_network', {'aux_weight': -1.0}),
  ):
    with pytest.raises(ValueError, match=str(list(settings.values())[0])):
      objectives.make(name, **settings)


def test_a_new_objective_is_a_function_and_a_line(monkeypatch):
  def logit_matching(*, scale=1.0):
    """Mean squared difference of centred logits, member by member."""

    def loss(family, outputs_BMK, teacher_outputs_BMK):
      gap_BMK = outputs_BMK - teacher_outputs_BMK
      gap_BMK -= gap_BMK.mean(-1, keepdims=True)
      return scale * (gap_BMK**2).mean((1, 2)), {}

    return objectives.Objective('logits', loss)

  monkeypatch.setitem(objectives.OBJECTIVES, 'logits', logit_matching)
  objective = objectives.make('logits', scale=2.0)
  z, t = logits(10), logits(10, 1)
  gap = (z - z.mean(-1, keepdims=True)) - (t - t.mean(-1, keepdims=True))
  loss_B, logs = objective.loss(categorical, z, t, **objective.schedule(0.5))
  np.testing.assert_allclose(loss_B, 2 * (gap**2).mean((1, 2)), rtol=1e-5)
  assert logs == {} and objective.width(categorical, 10) == 10
  assert objective.fits('gaussian', 'multi_head', 4, 4) is None
  labels = jnp.arange(B)
  np.testing.assert_allclose(
    objective.label_loss(categorical, z, labels), categorical.label_loss(z, labels)
  )


def test_a_normal_wisharts_start_is_what_outputs_of_zero_mean():
  zeros, members = np.zeros((2, 1, 4), np.float32), logits(2)[:2]
  shifted = zeros + np.array([0, 0, 3, 3], np.float32)
  with_start, without = (objectives.make('normal_wishart', start=s) for s in (3.0, 0.0))
  assert (with_start.predictive(gaussian, zeros).log_kappa_BD == 3).all()
  for part, *arguments in (('loss', members), ('label_loss', np.ones((2, 1), np.float32))):
    ours = getattr(with_start, part)(gaussian, zeros, *arguments)
    other = getattr(without, part)(gaussian, shifted, *arguments)
    jax.tree.map(np.testing.assert_array_equal, ours, other)
  with pytest.raises(ValueError, match='start=30'):
    objectives.make('normal_wishart', start=30)


def test_a_normal_wishart_begins_with_the_members_mean_and_variance():
  outputs, members = logits(8, members=1), logits(4)
  objective = objectives.make('normal_wishart', held=0.2, end=0.6)
  share = lambda progress: float(objective.schedule(progress)['share'])
  np.testing.assert_allclose(
    [share(p) for p in (0, 0.2, 0.4, 0.6, 1)], [0, 0, 0.5, 1, 1], atol=1e-6
  )
  loss = lambda share: objective.loss(gaussian, outputs, members, share=share)[0]
  fit = gaussian.kl(gaussian.mixture(members), outputs[..., :4])[:, 0]
  np.testing.assert_allclose(loss(0.0), fit, rtol=1e-6)
  np.testing.assert_allclose(loss(0.25), 0.75 * fit + 0.25 * loss(1.0), rtol=1e-4)
  with pytest.raises(ValueError, match='held=0.5, end=0.2'):
    objectives.make('normal_wishart', held=0.5, end=0.2)
