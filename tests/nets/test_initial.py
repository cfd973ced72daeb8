"""Initial weights: drawn on the host from the distributions that layers carry."""

import functools
import math

import flax.linen as nn
import jax
import numpy as np
import pytest
import tiny

from ensdistill import nets, students
from ensdistill.nets import initial, stack

KINDS = [
  ('single', {'variance': 'scalar'}),
  ('multi_head', {'head_stages': 1}),
  ('batch_ensemble', {}),
  ('batch_ensemble', {'factors': 'normal', 'factor_std': 0.3, 'bias': 'member'}),
]
X = np.zeros((1, 8, 8, 1), np.float32)
KEYS = jax.random.split(jax.random.key(7), 2)


def expected_moments(path, shape, factor_std):
  """Return mean and standard deviation by the names in the path; None for constants."""
  if path[-1] == 'kernel':
    linear = path[-2] in ('head', 'qkv', 'out', 'shrink')
    fan_in = math.prod(shape[1 if 'heads' in path else 0 : -1])
    return 0.0, math.sqrt((1 if linear else 2) / fan_in)
  return (1.0, factor_std) if path[-1] in ('r', 's') else None


def expected(module, key, factor_std):
  """Return the variables by path, from an independent rule: one generator draws leaf by leaf."""
  random = np.random.default_rng(np.asarray(jax.random.key_data(key)).tolist())
  drawn = {}
  for path, shape in tiny.leaves(jax.eval_shape(module.init, key, X)):
    if moments := expected_moments(path, shape.shape, factor_std):
      noise = random.standard_normal(shape.shape, np.float32)
      drawn[path] = np.float32(moments[0]) + np.float32(moments[1]) * noise
    else:
      drawn[path] = np.full(shape.shape, path[-1] in ('scale', 'var'), np.float32)
  return drawn


@pytest.mark.parametrize('kind, settings', KINDS)
@pytest.mark.parametrize('name', nets.NETWORKS)
def test_weights_are_those_of_the_rule_by_names(name, kind, settings):
  """If you did not mean to change initial weights: this test fails because they changed."""
  module = students.make(kind, tiny.backbone(name), 4, members=3, **settings).module
  stacked = dict(tiny.leaves(initial.variables(module, KEYS, X)))
  for i, key in enumerate(KEYS):
    leaves = expected(module, key, settings.get('factor_std', 0.0))
    assert stacked.keys() == leaves.keys()
    for path, leaf in leaves.items():
      np.testing.assert_array_equal(stacked[path][i], leaf, strict=True, err_msg=str(path))


# ---- one distribution for all kernels


def deviations(name, **settings):
  """Return the measured deviation of every kernel by path, of the whole network."""
  shape = (32, 32, 3)
  backbone = nets.build(name, shape=shape, mean=(0.5,), std=(0.25,), **settings)
  module = students.make('single', backbone, 100).module
  x = np.zeros((1, *shape), np.float32)
  stacked = initial.variables(module, KEYS[:1], x)
  return {
    '/'.join(path[1:-1]): leaf.std() for path, leaf in tiny.leaves(stacked) if path[-1] == 'kernel'
  }


# Name, settings, the first layer and the head: (path, fan in, fan out)
FANS = [
  (
    'wide_resnet',
    {'depth': 10, 'width': 10},
    ('stem/conv', 27, 9 * 16),
    ('head', 640, 100),
  ),
  ('resnet', {'depth': 8}, ('stem/conv', 27, 9 * 16), ('head', 64, 100)),
  (
    'vgg',
    {'depth': 11, 'channels': 16},
    ('stage0_conv0/conv', 27, 9 * 16),
    ('head', 512, 100),
  ),
]


@pytest.mark.parametrize('name, settings, first, head', FANS, ids=[row[0] for row in FANS])
def test_the_deviation_of_the_first_and_the_last_layer(name, settings, first, head):
  he = math.sqrt(2)
  for chosen, column, gain in (
    ({}, 1, None),  # today's: He before a ReLU, LeCun for the head
    ({'init': 'fan_in'}, 1, he),
    ({'init': 'fan_out'}, 2, he),
    ({'init_gain': 1.0}, 1, 1.0),
    ({'init': 'fan_out', 'init_gain': 0.5}, 2, 0.5),
  ):
    found = deviations(name, **settings, **chosen)
    for layer, default in ((first, he), (head, 1.0)):
      expected = (gain or default) / math.sqrt(layer[column])
      size = layer[1] * (layer[2] // 9 if layer is first else layer[2])
      np.testing.assert_allclose(found[layer[0]], expected, rtol=4 / math.sqrt(2 * size))
    if chosen == {'init': 'fan_out'}:  # Diversity Matters
      np.testing.assert_allclose(found['head'], 0.1414, rtol=0.02)


@pytest.mark.parametrize('kind, settings', KINDS)
@pytest.mark.parametrize('name', nets.NETWORKS)
def test_init_reaches_every_kernel_of_every_student(name, kind, settings):
  backbone = tiny.backbone(name, init='fan_out', init_gain=0.25)
  module = students.make(kind, backbone, 4, members=3, **settings).module
  stacked = dict(tiny.leaves(initial.variables(module, KEYS, X)))
  plain = students.make(kind, tiny.backbone(name), 4, members=3, **settings).module
  other = dict(tiny.leaves(initial.variables(plain, KEYS, X)))
  assert stacked.keys() == other.keys()
  for path, leaf in stacked.items():
    if path[-1] != 'kernel':
      np.testing.assert_array_equal(leaf, other[path])
      continue
    own = leaf.shape[2 if 'heads' in path else 1 :]
    fan_out, fan_in = math.prod(own[:-2]) * own[-1], math.prod(own[:-1])
    linear = path[-2] in ('head', 'qkv', 'out', 'shrink')
    ratio = 0.25 / math.sqrt(fan_out) / math.sqrt((1 if linear else 2) / fan_in)
    np.testing.assert_allclose(leaf, ratio * other[path], rtol=1e-5)


def test_wrong_initialisations_are_refused():
  with pytest.raises(ValueError, match="unknown network.init 'fan_inn': did you mean 'fan_in'"):
    tiny.backbone('mlp', init='fan_inn')
  with pytest.raises(ValueError, match='network.init_gain=0.0 must be positive'):
    tiny.backbone('mlp', init_gain=0.0)
  assert tiny.backbone('mlp').init is None


# ---- a user's initialisers


class Stage(nn.Module):
  """A stage with four dense layers: the default, two other initialisers, and Flax's own layer."""

  layers: stack.Layers

  @nn.compact
  def __call__(self, x):
    dense = self.layers.dense
    x = x.reshape((*x.shape[:-3], 64))
    x = dense(64, name='default')(x)
    x = dense(64, kernel_init=nn.initializers.orthogonal(), name='orthogonal')(x)
    x = dense(64, kernel_init=initial.Normal(5.0, 0.1), name='normal')(x)
    return nn.Dense(64, name='flax')(x)


class Ours(nn.Module):
  """Flax's own layer with an initialiser of this package."""

  layers: stack.Layers

  @nn.compact
  def __call__(self, x):
    return nn.Dense(64, kernel_init=initial.he_normal, name='flax')(x)


def user_network(shape):
  return stack.Network((('stage', Stage), ('ours', Ours)), convolutional=False)


def user_student(kind, monkeypatch, **settings):
  monkeypatch.setitem(nets.NETWORKS, 'user', user_network)
  backbone = nets.build('user', shape=(8, 8, 1), mean=(0.3,), std=(0.4,), **settings)
  own = {'head_stages': 2} if kind == 'multi_head' else {}
  return students.make(kind, backbone, 4, members=3, **own).module


@pytest.fixture(params=['single', 'multi_head', 'batch_ensemble'])
def user_module(request, monkeypatch):
  return user_student(request.param, monkeypatch)


def test_another_initialiser_is_used_as_it_is(user_module):
  stacked = dict(tiny.leaves(initial.variables(user_module, KEYS, X)))
  every_init = [dict(tiny.leaves(jax.jit(user_module.init)(key, X))) for key in KEYS]
  assert stacked.keys() == every_init[0].keys()
  for path, leaf in stacked.items():
    # What the layers' own distributions do not decide has the value of module.init, per key.
    if {'orthogonal', 'flax'} & {*path} and path[-1] == 'kernel':
      for drawn, init in zip(leaf, every_init):
        np.testing.assert_allclose(drawn, init[path], atol=1e-6)
      assert np.abs(leaf[0] - leaf[1]).max() > 0.01
  (orthogonal,) = (a for path, a in stacked.items() if path[-2:] == ('orthogonal', 'kernel'))
  square = np.swapaxes(orthogonal, -1, -2) @ orthogonal
  np.testing.assert_allclose(square, np.broadcast_to(np.eye(64), square.shape), atol=1e-5)


def test_a_distribution_is_drawn_whatever_the_layers_name(user_module):
  stacked = dict(tiny.leaves(initial.variables(user_module, KEYS, X)))
  kernels = {path[-2]: leaf for path, leaf in stacked.items() if path[-1] == 'kernel'}
  for name, mean, std in ('default', 0, math.sqrt(2 / 64)), ('normal', 5, 0.1):
    np.testing.assert_allclose(kernels[name].mean(), mean, atol=0.01)
    np.testing.assert_allclose(kernels[name].std(), std, rtol=0.05)


def test_a_setting_leaves_a_stages_own_initialiser_alone(monkeypatch):
  module = user_student('single', monkeypatch, init='fan_in', init_gain=0.1)
  stacked = dict(tiny.leaves(initial.variables(module, KEYS, X)))
  kernels = {path[-2]: leaf for path, leaf in stacked.items() if path[-1] == 'kernel'}
  for name, std in (('default', 0.1 / 8), ('normal', 0.1), ('orthogonal', 1 / 8)):
    np.testing.assert_allclose(kernels[name].std(), std, rtol=0.05)


def test_rematerialised_stages_draw_the_same_weights():
  plain = tiny.backbone('resnet')
  stages = [
    (name, functools.partial(nn.remat(stage.func), *stage.args, **stage.keywords))
    for name, stage in plain.stages
  ]
  remat = tiny.replace(plain, stages=tuple(stages))
  a, b = (students.make('single', backbone, 4).module for backbone in (plain, remat))
  expected = initial.variables(a, KEYS, X)
  for _ in range(2):  # a cached trace would report no distributions
    found = initial.variables(b, KEYS, X)
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    assert tiny.largest_difference(found, expected) == 0


def test_the_distributions_are_flax_initialisers():
  kernel = initial.he_normal(jax.random.key(0), (3, 3, 64, 256))
  np.testing.assert_allclose([kernel.mean(), kernel.std()], [0, (2 / 576) ** 0.5], atol=1e-3)
  kernel = initial.lecun_normal(jax.random.key(0), (64, 512))
  np.testing.assert_allclose([kernel.mean(), kernel.std()], [0, 1 / 8], atol=2e-3)
  factors = initial.Normal(1.0, 0.5)(jax.random.key(0), (100, 100))
  np.testing.assert_allclose([factors.mean(), factors.std()], [1, 0.5], atol=0.02)
