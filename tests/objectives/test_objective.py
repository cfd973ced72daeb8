"""The table of objectives: settings, predictive distributions, what fits, and a new objective."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.special
from references import B, extremes, logits

from ensdistill import families, objectives, predictive
from ensdistill.objectives.objective import clip
from ensdistill.training import optim

categorical, gaussian = families.categorical, families.gaussian


def test_settings_reach_the_loss():
  def both(z, t):
    one = z[:, :1]

    def loss_of(name, z, **settings):
      return objectives.make(name, **settings).loss(categorical, z, t)

    return (
      (loss_of('mean', z, temperature=4.0), objectives.mean(z, t, 4.0)),
      (loss_of('mean', z), objectives.mean(z, t)),
      (loss_of('members', z, temperature=4.0), objectives.members(z, t, 4.0)),
      (loss_of('dirichlet', one, smoothing=0.1), objectives.dirichlet(one, t, smoothing=0.1)),
      (
        loss_of('proxy_dirichlet', one, form='forward'),
        objectives.proxy_dirichlet(one, t, 'forward'),
      ),
    )

  values = []
  for (loss_B, _), expected in jax.jit(both)(logits(10), logits(10, 1)):
    np.testing.assert_allclose(loss_B.mean(), expected, rtol=1e-6)
    values.append(float(expected))
  assert len(set(np.round(values, 4))) == 5  # each setting matters


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
    ('mean', {'held': 0.7, 'end': 0.6}),
    ('mean', {'held': 0.5}),
    ('mean', {'end': 0.25}),
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


# ---- beyond the clip of the outputs

OUTSIDE = [61.0, -61.0, 100.0, -100.0, 1e4, -1e4]
LABELS = np.array([0, 1, 2, -1, -1])
CLIPPED = {
  'dirichlet': functools.partial(objectives.dirichlet, temperature=1.0),
  'reverse': functools.partial(objectives.proxy_dirichlet, form='reverse'),
  'forward': functools.partial(objectives.proxy_dirichlet, form='forward'),
  'prior_network': lambda z, t: objectives.prior_network(z, LABELS),
}


def beyond(width, outputs):
  """Yield teachers [B, M, outputs] and students [B, 1, width] beyond the clip."""
  teachers = [logits(outputs, 1), np.zeros((B, 4, outputs)), *dict(extremes(outputs)).values()]
  for t in teachers:
    for outside in OUTSIDE:
      for signs in (1, np.sign(logits(width, 7, 1))):
        yield t.astype(np.float32), np.full((B, 1, width), outside * signs, np.float32)


@pytest.mark.parametrize('name', CLIPPED)
def test_one_step_from_beyond_the_clip_moves_every_output_back(name):
  gradient = jax.jit(jax.grad(CLIPPED[name]))
  sgd = optim.make(name='sgd', rate=0.1, steps=1, schedule='constant', clip=10.0, momentum=0.0)
  for t, z in beyond(8, 8):
    updates, _ = sgd.update(gradient(z, t), sgd.init(z), z)
    after = np.asarray(optax.apply_updates(z, updates))
    assert np.isfinite(after).all()
    assert (np.abs(after) < np.abs(z)).all(), z


def test_the_counts_of_a_normal_wishart_come_back_from_beyond_the_clip():
  gradient = jax.jit(jax.grad(objectives.normal_wishart))
  for t, z in beyond(8, 4):
    z[..., :4] = 0  # mean and log-variance are not clipped
    g = np.asarray(gradient(z, t))
    assert np.isfinite(g).all()
    assert (g * z > 0)[..., 4:].all()


@pytest.mark.parametrize('value, sign', [(61.0, 1), (-61.0, -1)])
def test_the_gradient_beyond_the_clip_is_the_one_at_the_clip_with_the_sign_that_leads_back(
  value, sign
):
  g = np.array([3.0, -2.0, 0.25, 0.0, np.nan, np.inf, -np.inf, -1e30, 1e-30], np.float32)
  z = np.full(g.shape, value, np.float32)
  (pulled,) = jax.vjp(lambda z: clip(z, 60.0)[0], z)[1](jnp.asarray(g))
  least = 61 / 2**14
  expected = [3, 2, 0.25, least, least, 100, 100, 100, least]
  np.testing.assert_allclose(pulled, sign * np.array(expected), rtol=1e-6)


def test_within_the_interval_and_at_its_ends_the_gradient_passes():
  g = np.array([3.0, -2.0, 0.0, 1e9, -1e-30], np.float32)
  for value in (-60.0, -59.9, 0.0, 60.0):
    clipped, pull_back = jax.vjp(lambda z: clip(z, 60.0)[0], np.full(g.shape, value, np.float32))
    np.testing.assert_array_equal(clipped, np.full(g.shape, value, np.float32))
    np.testing.assert_array_equal(pull_back(jnp.asarray(g))[0], g)


@pytest.mark.parametrize('value', [46.0, 52.0, 59.0])
@pytest.mark.parametrize('name', ['dirichlet', 'forward', 'prior_network'])
def test_a_step_from_near_the_end_of_the_interval_moves(name, value):
  """Gradients are up to e^60 there, and the square of their norm would overflow."""
  sgd = optim.make(name='sgd', rate=0.1, steps=1, schedule='constant', clip=10.0, momentum=0.0)
  z = np.full((B, 1, 8), -value if name == 'prior_network' else value, np.float32)
  t = np.stack([logits(8, m)[:, 0] for m in range(4)], 1)
  gradient = jax.jit(jax.grad(CLIPPED[name]))(z, t)
  updates = np.asarray(sgd.update(gradient, sgd.init(z), z)[0])
  assert np.isfinite(updates).all() and np.linalg.norm(updates) == pytest.approx(1, rel=1e-3)
  assert (updates * z < 0).any() and np.abs(gradient).max() <= 1e10


def test_the_loss_keeps_its_value_at_the_clip():
  t = logits(8, 1)
  for loss in map(jax.jit, CLIPPED.values()):
    for sign in (1, -1):
      at = loss(np.full((B, 1, 8), sign * 60.0, np.float32), t)
      for value in (61.0, 100.0, 1e4):
        assert loss(np.full((B, 1, 8), sign * value, np.float32), t) == at


STUDENTS_OF_ONE = {
  'mean': objectives.mean,
  'dirichlet': objectives.dirichlet,
  'proxy_dirichlet': objectives.proxy_dirichlet,
}


@pytest.mark.parametrize('name', STUDENTS_OF_ONE)
def test_outputs_without_a_member_axis_are_one_network(name):
  """Custom loops have students [B, O]; also a teacher of one network."""
  objective, random = STUDENTS_OF_ONE[name], np.random.default_rng(0)
  student = random.normal(size=(5, 3)).astype(np.float32)
  teacher = random.normal(size=(5, 4, 3)).astype(np.float32)
  assert objective(student, teacher) == objective(student[:, None], teacher)
  assert objective(student, teacher[:, 0]) == objective(student[:, None], teacher[:, :1])


def test_members_and_normal_wishart_take_outputs_without_a_member_axis():
  random = np.random.default_rng(0)
  a, b = (random.normal(size=(5, 2)).astype(np.float32) for _ in range(2))
  assert objectives.members(a, b) == objectives.members(a[:, None], b[:, None])
  four = random.normal(size=(5, 4)).astype(np.float32)
  own = objectives.normal_wishart(four, b)
  assert own == objectives.normal_wishart(four[:, None], b[:, None])
  labels = jnp.array([0, 1, 0, 1, -1])
  assert objectives.prior_network(a, labels) == objectives.prior_network(a[:, None], labels)


@pytest.mark.parametrize(
  ('student', 'teacher', 'words'),
  [
    ((5,), (5, 4, 3), r'outputs of the student have shape \(5,\): give \[B, O\]'),
    ((5, 3), (5, 4, 3, 1), r'outputs of the teacher have shape'),
    ((5, 3), (6, 4, 3), 'the student needs B = 6 examples and O = 3 outputs'),
    ((5, 3), (5, 4, 2), 'the student needs B = 5 examples and O = 2 outputs'),
  ],
)
def test_wrong_shapes_are_named(student, teacher, words):
  for objective in STUDENTS_OF_ONE.values():
    with pytest.raises(ValueError, match=words):
      objective(np.zeros(student, np.float32), np.zeros(teacher, np.float32))


@pytest.mark.parametrize('name', STUDENTS_OF_ONE)
def test_losses_of_half_precision_outputs_are_float32(name):
  objective, random = STUDENTS_OF_ONE[name], np.random.default_rng(0)
  student = jnp.asarray(random.normal(size=(5, 1, 3)), jnp.bfloat16)
  teacher = jnp.asarray(random.normal(size=(5, 4, 3)), jnp.bfloat16)
  found = objective(student, teacher)
  assert found.dtype == jnp.float32
  assert found == objective(student.astype(jnp.float32), teacher.astype(jnp.float32))
