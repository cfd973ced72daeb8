"""Custom networks: stages, and Flax modules with layers of their own."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from ensdistill import nets, students
from ensdistill.nets import custom, stack

SHAPE = {'shape': (8, 8, 1), 'mean': (0.3,), 'std': (0.4,)}
X = np.random.default_rng(0).random((5, 8, 8, 1), np.float32)


class Images(nn.Module):
  """Batch norm, and dropout if it trains; returns images."""

  channels: int = 6
  rate: float = 0.5

  @nn.compact
  def __call__(self, x, train):
    x = nn.BatchNorm(use_running_average=not train)(nn.Conv(self.channels, (3, 3))(x))
    return nn.Dropout(self.rate, deterministic=not train)(x)


class Flat(nn.Module):
  """Features, without an argument for training."""

  @nn.compact
  def __call__(self, x):
    return nn.Dense(7)(x.reshape((len(x), -1)))


class Stage(nn.Module):
  layers: stack.Layers
  features: int

  @nn.compact
  def __call__(self, x):
    return nn.relu(self.layers.norm(name='norm')(self.layers.conv(self.features, name='conv')(x)))


def stages(shape, *, blocks: int = 2):
  return [(f'block{i}', functools.partial(Stage, features=4 + i)) for i in range(blocks)]


def build(made, monkeypatch, **settings):
  monkeypatch.setitem(nets.NETWORKS, 'own', made)
  return nets.build('own', **SHAPE | settings)


def variables(module):
  return module.init(jax.random.key(0), X)


def test_the_features_of_a_module_are_averaged_and_get_a_dense_layer(monkeypatch):
  module = students.make('single', build(Images, monkeypatch, channels=3), 4).module
  own = variables(module)
  params = own['params']
  features = Images(3).apply(
    {'params': params['module']['module'], 'batch_stats': own['batch_stats']['module']['module']},
    jnp.asarray((X - 0.3) / 0.4),
    train=False,
  )
  expected = features.mean((1, 2)) @ params['head']['kernel'] + params['head']['bias'][None]
  np.testing.assert_allclose(module.apply(own, X)[:, 0], expected, rtol=1e-5, atol=1e-6)


def test_a_module_is_told_whether_it_trains(monkeypatch):
  module = students.make('single', build(Images, monkeypatch), 4).module
  own = variables(module)
  train = functools.partial(module.apply, own, X, True, mutable=['batch_stats'])
  (first, updated), (second, _) = (train(rngs={'dropout': jax.random.key(i)}) for i in (1, 2))
  assert np.abs(first - second).max() > 0
  old, new = (jax.tree.leaves(tree['batch_stats']) for tree in (own, updated))
  assert all(np.abs(a - b).max() > 0 for a, b in zip(old, new))


class OfNNX(nnx.Module):
  def __init__(self, features, rngs):
    self.conv = nnx.Conv(1, features, (3, 3), rngs=rngs)
    self.norm = nnx.BatchNorm(features, rngs=rngs)

  def __call__(self, x, train):
    return self.norm(self.conv(x), use_running_average=not train)


def test_a_module_of_nnx_becomes_one_of_linen(monkeypatch):
  backbone = build(lambda shape: nnx.bridge.to_linen(OfNNX, 5), monkeypatch)
  module = students.make('multi_head', backbone, 4, members=2, head_stages=0).module
  own = variables(module)
  y, updated = module.apply(own, X, True, mutable=['batch_stats'])
  still = module.apply(own, X)
  assert y.shape == still.shape == (5, 2, 4) and np.abs(y - still).max() > 1e-3
  mean = updated['batch_stats']['module']['module']['norm']['mean']
  assert mean.shape == (5,) and np.abs(mean).min() > 0


@pytest.mark.parametrize('made', [Images, lambda shape: Flat(), lambda shape: nn.Dense(3)])
def test_dense_heads_of_a_module_share_its_body(monkeypatch, made):
  if made.__name__ == '<lambda>' and isinstance(made(None), nn.Dense):

    def made(shape):
      return nn.Sequential([lambda x: x.reshape((len(x), -1)), nn.Dense(3)])

  backbone = build(made, monkeypatch)
  student = students.make('multi_head', backbone, 4, members=3, head_stages=0)
  own = variables(student.module)
  assert student.module.apply(own, X).shape == (5, 3, 4)
  assert own['params']['heads']['head']['kernel'].shape[0] == 3 and 'module' in own['params']
  for kind, settings, message in (
    ('multi_head', {'head_stages': 1}, 'head_stages=1: a network that is one Flax module'),
    ('batch_ensemble', {}, "student.kind='batch_ensemble' replaces the layers"),
  ):
    with pytest.raises(ValueError, match=message):
      students.make(kind, backbone, 4, members=3, **settings)


@pytest.mark.parametrize('kind', students.STUDENTS)
def test_stages_serve_every_student(monkeypatch, kind):
  student = students.make(kind, build(stages, monkeypatch, blocks=3), 4, members=2)
  own = variables(student.module)
  assert student.module.apply(own, X).shape == (5, student.size, 4)
  assert 'head' in str(own['params'].keys()) and 'block0' in own['params']


def test_fields_of_a_class_are_settings(monkeypatch):
  monkeypatch.setitem(nets.NETWORKS, 'own', Images)
  with pytest.raises(ValueError, match="unknown setting of own 'chanels': did you mean 'channels'"):
    nets.build('own', **SHAPE, chanels=3)
  assert custom.builder(stages) is stages


class Cached(nn.Module):
  @nn.compact
  def __call__(self, x):
    return x.mean((1, 2)) + self.variable('cache', 'mean', jnp.zeros, (1, 1)).value


class Fails(nn.Module):
  @nn.compact
  def __call__(self, x):
    return nn.Dense(3)(x) @ jnp.ones((7, 7))


class Sums(nn.Module):
  @nn.compact
  def __call__(self, x):
    return x.sum(0)


class Pair(nn.Module):
  @nn.compact
  def __call__(self, x):
    return x, x


WRONG = (
  (lambda shape: 3, 'returned a int: return a list of stages'),
  (lambda shape: [], 'returned no stage'),
  (lambda shape: [Flat()], r"stage 0 of network 'own' is Flat\("),
  (lambda shape: [('a', Stage), ('a', Stage)], "two stages named 'a'"),
  (lambda shape: [('a', Stage)], "network 'own' failed on inputs of shape .*TypeError"),
  (lambda shape: Fails(), "network 'own' failed on inputs of shape .*TypeError"),
  (lambda shape: Cached(), r"keeps variables in \['cache'\]"),
  (lambda shape: Sums(), r'ends with shape \(8, 8, 1\) for 2 inputs: end with features'),
  (lambda shape: Pair(), 'ends with a tuple for 2 inputs'),
)


@pytest.mark.parametrize('made, message', WRONG)
def test_wrong_networks_are_one_line(monkeypatch, made, message):
  with pytest.raises(ValueError, match=message) as error:
    build(made, monkeypatch)
  assert '\n' not in str(error.value)


def test_settings_that_a_module_ignores_are_refused(monkeypatch):
  for settings, message in (
    ({'dtype': 'bfloat16'}, 'network.dtype has no effect'),
    ({'init': 'fan_out'}, 'network.init and network.init_gain have no effect'),
  ):
    with pytest.raises(ValueError, match=message):
      build(Images, monkeypatch, **settings)
