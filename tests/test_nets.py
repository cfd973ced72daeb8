import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from ensdistill import nets, students
from ensdistill.nets import stack

DIGITS = {'shape': (8, 8, 1), 'mean': (0.3,), 'std': (0.4,)}
COLOUR = {'shape': (8, 8, 3), 'mean': (0.5, 0.4, 0.3), 'std': (0.2, 0.3, 0.4)}


def network(name, outputs=3, **settings):
  return students.make('single', nets.build(name, **settings), outputs).module


def short(name, **settings):
  """The first and the last stage of a network: all of its kinds of layers, soon compiled."""
  depth = {'mlp': {}, 'resnet': {'depth': 8}, 'wide_resnet': {'depth': 10}}[name]
  whole = nets.build(name, **depth, **settings)
  backbone = dataclasses.replace(whole, stages=(whole.stages[0], whole.stages[-1]))
  return students.make('single', backbone, 3).module


def inputs(shape, batch=5):
  return np.random.default_rng(0).uniform(size=(batch, *shape)).astype(np.float32)


def moved(module, x, amount=0.2):
  """Variables whose every leaf (scales and running statistics too) is away from its start."""
  variables = jax.eval_shape(module.init, jax.random.key(0), x)
  rng = np.random.default_rng(1)

  def leaf(path, a):
    value = amount * rng.normal(size=a.shape)
    return np.float32(value + (path[-1].key in ('scale', 'var', 'r', 's')))

  return jax.tree_util.tree_map_with_path(leaf, variables)


def parameters(module, shape):
  variables = jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((1, *shape)))
  return sum(a.size for a in jax.tree.leaves(variables['params']))


@pytest.mark.parametrize(
  'name, outputs, settings, expected',
  [
    ('resnet', 10, {'depth': 20}, 272_474),
    ('wide_resnet', 10, {'depth': 28, 'width': 1}, 369_498),
    ('wide_resnet', 100, {'depth': 28, 'width': 4}, 5_872_180),
    ('wide_resnet', 100, {'depth': 28, 'width': 10}, 36_536_884),
  ],
)
def test_parameter_counts(name, outputs, settings, expected):
  settings |= {'shape': (32, 32, 3), 'mean': (0.5,), 'std': (0.25,)}
  assert parameters(network(name, outputs, **settings), (32, 32, 3)) == expected


def test_parameters_of_an_mlp():
  module = network('mlp', 4, shape=(8, 8, 1), mean=(0.5,), std=(0.25,), hidden=(100, 50))
  assert parameters(module, (8, 8, 1)) == 64 * 100 + 100 + 100 * 50 + 50 + 50 * 4 + 4


# ---- every network against its definition, written out


def conv(x, layer, stride=1):
  """Padded like TensorFlow: an odd row more goes to the end."""
  w = layer['kernel']
  total = [max(w.shape[0] - (stride if n % stride == 0 else n % stride), 0) for n in x.shape[1:3]]
  pads = [(n // 2, n - n // 2) for n in total]
  return lax.conv_general_dilated(
    x, w, (stride, stride), pads, dimension_numbers=('NHWC', 'HWIO', 'NHWC')
  )


def norm(x, layer, stats):
  std = np.sqrt(stats['var'] + 1e-5)
  return (np.asarray(x) - stats['mean']) / std * layer['scale'] + layer['bias']


def relu(x):
  return np.maximum(x, 0)


def resnet_block(x, p, s, stride):
  y = relu(norm(conv(x, p['conv1'], stride), p['norm1'], s['norm1']))
  y = norm(conv(y, p['conv2']), p['norm2'], s['norm2'])
  if 'shortcut' in p:
    x = norm(conv(x, p['shortcut'], stride), p['shortcut_norm'], s['shortcut_norm'])
  return relu(x + y)


def wide_block(x, p, s, stride):
  y = conv(relu(norm(x, p['norm1'], s['norm1'])), p['conv1'], stride)
  y = conv(relu(norm(y, p['norm2'], s['norm2'])), p['conv2'])
  x = y + (conv(x, p['shortcut'], stride) if 'shortcut' in p else x)
  return relu(norm(x, p['norm_out'], s['norm_out'])) if 'norm_out' in p else np.asarray(x)


def residual_network(x, variables, block):
  p, s = variables['params'], variables['batch_stats']
  x = conv(x, p['stem']['conv'])
  if 'norm' in p['stem']:
    x = relu(norm(x, p['stem']['norm'], s['stem']['norm']))
  for stage in range(3):
    for i in range(sum(name.startswith(f'stage{stage}') for name in p)):
      name = f'stage{stage}_block{i}'
      x = block(x, p[name], s[name], 2 if stage and not i else 1)
  return x.mean((1, 2)) @ p['head']['kernel'] + p['head']['bias']


@pytest.mark.parametrize(
  'name, settings, block, shortcuts',
  [
    ('resnet', {'depth': 8}, resnet_block, {1, 2}),
    ('wide_resnet', {'depth': 16, 'width': 1}, wide_block, {1, 2}),
    ('wide_resnet', {'depth': 10, 'width': 2}, wide_block, {0, 1, 2}),
  ],
)
def test_residual_networks_are_what_they_say(name, settings, block, shortcuts):
  module, x = network(name, **settings, **COLOUR), inputs((8, 8, 3))
  variables = moved(module, x)
  params = variables['params']
  assert {int(name[5]) for name, p in params.items() if 'shortcut' in p} == shortcuts
  if block is wide_block:
    last = f'stage2_block{(settings["depth"] - 4) // 6 - 1}'
    assert [name for name, p in params.items() if 'norm_out' in p] == [last]
  normalised = (x - np.float32(COLOUR['mean'])) / np.float32(COLOUR['std'])
  expected = residual_network(normalised, variables, block)
  y = jax.jit(module.apply)(variables, x)
  np.testing.assert_allclose(y[:, 0], expected, rtol=1e-3, atol=1e-4)


def test_mlp_is_what_it_says():
  module, x = network('mlp', hidden=(6, 7), **DIGITS), inputs((8, 8, 1))
  variables = moved(module, x)
  assert set(variables) == {'params'}
  p = variables['params']
  y = (x.reshape(5, 64) - np.float32(0.3)) / np.float32(0.4)
  for name in 'hidden0', 'hidden1':
    y = relu(y @ p[name]['dense']['kernel'] + p[name]['dense']['bias'])
  y = y @ p['head']['kernel'] + p['head']['bias']
  np.testing.assert_allclose(module.apply(variables, x)[:, 0], y, rtol=1e-4, atol=1e-5)


# ---- training mode, forms, dtypes


@functools.partial(jax.jit, static_argnums=0)
def training(module, variables, x):
  """Outputs, new statistics, gradients to parameters and inputs."""

  def loss(params, x):
    y, new = module.apply({**variables, 'params': params}, x, True, mutable=['batch_stats'])
    return (y * jnp.arange(3.0)[None, None]).sum(), (y, new)

  gradients, (y, new) = jax.grad(loss, (0, 1), has_aux=True)(variables['params'], x)
  return y, new, gradients


@pytest.mark.parametrize('name', ['resnet', 'wide_resnet'])
def test_forms_agree_in_training(name):
  x = inputs((8, 8, 3), 7)
  plain, cpu = (short(name, form=form, **COLOUR) for form in ('plain', 'cpu'))
  variables = moved(plain, x)
  for a, b in zip(*[jax.tree.leaves(training(m, variables, x)) for m in (plain, cpu)], strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-3, atol=2e-4 * np.abs(a).max())


def test_auto_takes_the_cpu_forms_on_one_cpu_device():
  x = inputs((8, 8, 3))
  texts = {}
  for form in 'auto', 'plain', 'cpu':
    module = network('resnet', depth=8, form=form, **COLOUR)
    texts[form] = str(jax.make_jaxpr(module.apply)(moved(module, x), x))
  one_cpu = jax.default_backend() == 'cpu' and jax.device_count() == 1
  assert 'custom_vmap' in texts['cpu'] and 'custom_vmap' not in texts['plain']
  assert ('custom_vmap' in texts['auto']) == one_cpu


@pytest.mark.parametrize('name', ['mlp', 'resnet'])
def test_bfloat16_gives_float32_outputs_and_statistics(name):
  x = inputs((8, 8, 3))
  exact, low = (short(name, dtype=dtype, **COLOUR) for dtype in ('float32', 'bfloat16'))
  variables = moved(exact, x, 0.1)
  train = jax.jit(lambda m, v: m.apply(v, x, True, mutable=['batch_stats']), static_argnums=0)
  (y, new), (expected, _) = train(low, variables), train(exact, variables)
  assert {a.dtype for a in jax.tree.leaves((y, new))} == {jnp.dtype('float32')}
  np.testing.assert_allclose(y, expected, atol=0.05 * np.abs(expected).max())
  assert np.abs(y - expected).max() > 0


@pytest.mark.parametrize('name', nets.NETWORKS)
def test_dropout_is_drawn_in_training_alone(name):
  module, x = short(name, dropout=0.5, **DIGITS), inputs((8, 8, 1))
  variables = moved(module, x)
  train = jax.jit(lambda key: module.apply(variables, x, True, rngs={'dropout': key}))
  first, second = train(jax.random.key(0)), train(jax.random.key(1))
  np.testing.assert_array_equal(first, train(jax.random.key(0)))
  assert np.abs(first - second).max() > 1e-3
  without = short(name, **DIGITS)
  still = jax.jit(module.apply)(variables, x)
  np.testing.assert_array_equal(still, jax.jit(without.apply)(variables, x))


@pytest.mark.parametrize('name', nets.NETWORKS)
def test_batch_statistics_may_be_absent_or_empty(name):
  module, x = short(name, **DIGITS), inputs((8, 8, 1))
  variables = moved(module, x)
  params, stats = variables['params'], variables.get('batch_stats', {})
  run = jax.jit(lambda *args: module.apply(*args, True, mutable=['batch_stats']))
  y, new = run({'params': params, 'batch_stats': stats}, x)
  assert y.shape == (5, 1, 3) and y.dtype == jnp.float32
  assert jax.tree.structure(new.get('batch_stats', {})) == jax.tree.structure(stats)
  assert bool(stats) == (name != 'mlp')


# ---- a backbone of one's own: dropout by place, its own pooling, dense stages


class Convolution(nn.Module):
  layers: stack.Layers
  features: int
  dropout: float

  @nn.compact
  def __call__(self, x):
    x = self.layers.conv(self.features, 3, use_bias=True, name='conv')(x)
    x = nn.leaky_relu(self.layers.norm(name='norm')(x), 0.2)
    x = self.layers.dropout(self.dropout)(x)
    return nn.max_pool(x, (2, 2), (2, 2))


class Flat(nn.Module):
  layers: stack.Layers

  @nn.compact
  def __call__(self, x):
    x = x.reshape((*x.shape[:-3], 2 * 2 * 4))
    return self.layers.dropout(0.5)(nn.relu(self.layers.dense(9, name='dense')(x)))


def small_vgg(shape, *, dropout=0.5):
  stages = [(f'conv{i}', functools.partial(Convolution, features=4, dropout=0.2)) for i in range(2)]
  return (*stages, ('flat', Flat)), stack.identity


@pytest.mark.parametrize('kind', students.STUDENTS)
def test_a_new_backbone_is_one_function(monkeypatch, kind):
  monkeypatch.setitem(nets.NETWORKS, 'small_vgg', small_vgg)
  student = students.make(kind, nets.build('small_vgg', **DIGITS), 3, members=2)
  x = inputs((8, 8, 1))
  run = lambda variables: student.module.apply(
    variables, x, True, mutable=['batch_stats'], rngs={'dropout': jax.random.key(1)}
  )
  y, _ = jax.jit(run)(moved(student.module, x))
  assert y.shape == (5, student.size, 3)
  if student.size > 1:
    assert np.abs(y[:, 0] - y[:, 1]).max() > 0  # each member draws its own dropout


# ---- errors


@pytest.mark.parametrize(
  'name, settings, message',
  [
    ('resent', {}, "unknown network 'resent': did you mean 'resnet'"),
    ('resnet', {'dept': 20}, "unknown setting of resnet 'dept': did you mean 'depth'"),
    ('mlp', {'depth': 3}, "unknown setting of mlp 'depth'"),
    ('resnet', {'depth': 21}, r'6n \+ 2 .* not 21'),
    ('wide_resnet', {'depth': 27}, r'6n \+ 4 .* not 27'),
    ('wide_resnet', {'width': 0}, 'not 0'),
    ('mlp', {'hidden': ()}, r'not \(\)'),
    ('mlp', {'hidden': (8, 0)}, r'not \(8, 0\)'),
    ('resnet', {'shape': (2,)}, r'not \(2,\): use mlp'),
    ('resnet', {'dropout': 1.5}, 'not 1.5'),
    ('resnet', {'form': 'gpu'}, "unknown form 'gpu'"),
    ('resnet', {'dtype': 'float16'}, "unknown dtype 'float16'"),
    ('resnet', {'mean': (0.5, 0.5)}, 'mean has 2 values'),
    ('resnet', {'std': (0.0,)}, 'std must be positive'),
  ],
)
def test_wrong_settings_say_so(name, settings, message):
  with pytest.raises(ValueError, match=message):
    nets.build(name, **{**DIGITS, **settings})


def test_wrong_inputs_say_so():
  module, x = network('resnet', depth=8, **DIGITS), inputs((8, 8, 1))
  with pytest.raises(ValueError, match=r'shape \(9, 8, 1\), the network was made for \(8, 8, 1\)'):
    module.apply(moved(module, x), inputs((9, 8, 1)))
