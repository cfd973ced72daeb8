import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from jax import lax
from tiny import moved

from ensdistill import nets, students
from ensdistill.nets import stack, vit

DIGITS = {'shape': (8, 8, 1), 'mean': (0.3,), 'std': (0.4,)}
COLOUR = {'shape': (8, 8, 3), 'mean': (0.5, 0.4, 0.3), 'std': (0.2, 0.3, 0.4)}


def network(name, outputs=3, **settings):
  return students.make('single', nets.build(name, **settings), outputs).module


def short(name, **settings):
  return students.make('single', tiny.backbone(name, **settings), 3).module


def inputs(shape, batch=5):
  return np.random.default_rng(0).uniform(size=(batch, *shape)).astype(np.float32)


def test_parameters_of_an_mlp():
  module, x = network('mlp', 4, hidden=(100, 50), **DIGITS), inputs((8, 8, 1))
  parameters = sum(a.size for a in jax.tree.leaves(moved(module, x)['params']))
  assert parameters == 64 * 100 + 100 + 100 * 50 + 50 + 50 * 4 + 4


# ---- each network against its definition


def conv(x, layer, stride=1):
  """Convolve with TensorFlow's padding: an extra row or column is added at the end."""
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


def bottleneck(x, p, s, stride):
  y = relu(norm(conv(x, p['conv1']), p['norm1'], s['norm1']))
  y = relu(norm(conv(y, p['conv2'], stride), p['norm2'], s['norm2']))
  y = norm(conv(y, p['conv3']), p['norm3'], s['norm3'])
  if 'shortcut' in p:
    x = norm(conv(x, p['shortcut'], stride), p['shortcut_norm'], s['shortcut_norm'])
  return relu(x + y)


def max_pool(x, window, stride):
  return np.asarray(nn.max_pool(x, (window, window), (stride, stride), 'SAME'))


def residual_network(x, variables, block):
  p, s = variables['params'], variables['batch_stats']
  large = p['stem']['conv']['kernel'].shape[0] == 7
  x = conv(x, p['stem']['conv'], 2 if large else 1)
  if 'norm' in p['stem']:
    x = relu(norm(x, p['stem']['norm'], s['stem']['norm']))
  x = max_pool(x, 3, 2) if large else x
  for stage in range(4):
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


@pytest.mark.parametrize('depth, block', [(18, resnet_block), (50, bottleneck)])
def test_residual_networks_for_large_images_are_what_they_say(depth, block):
  shape = (22, 21, 3)
  whole = nets.build('imagenet_resnet', **{**COLOUR, 'shape': shape}, depth=depth, channels=4)
  keep = ('stem', 'stage0_block0', 'stage0_block1', 'stage1_block0', 'stage2_block0')
  stages = tuple((name, stage) for name, stage in whole.stages if name in keep)
  module = students.make('single', tiny.replace(whole, stages=stages), 3).module
  x = inputs(shape, 3)
  variables = moved(module, x)
  shortcuts = [name for name, p in variables['params'].items() if 'shortcut' in p]
  assert shortcuts == sorted({*keep[3:]} | ({keep[1]} if depth == 50 else set()))
  expected = residual_network(
    (x - np.float32(COLOUR['mean'])) / np.float32(COLOUR['std']), variables, block
  )
  y = jax.jit(module.apply)(variables, x)
  np.testing.assert_allclose(y[:, 0], expected, rtol=1e-3, atol=1e-4)


def test_vgg_is_what_it_says():
  module, x = network('vgg', depth=13, channels=2, **DIGITS), inputs((8, 8, 1))
  variables = moved(module, x)
  p, s = variables['params'], variables['batch_stats']

  def leaky(x):
    return np.where(x > 0, x, 0.2 * x)

  y = (x - np.float32(0.3)) / np.float32(0.4)
  for stage, features in enumerate((2, 4, 8, 16, 16)):
    for i in range(2):
      name = f'stage{stage}_conv{i}'
      assert p[name]['conv']['kernel'].shape[-1] == features
      y = leaky(norm(conv(y, p[name]['conv']), p[name]['norm'], s[name]['norm']))
    y = max_pool(y, 2, 2)
  y = y.reshape(5, -1)  # 8 pixels are 1 after three blocks
  for name in 'dense0', 'dense1':
    y = leaky(y @ p[name]['dense']['kernel'] + p[name]['dense']['bias'])
    assert y.shape == (5, 64)
  y = y @ p['head']['kernel'] + p['head']['bias']
  np.testing.assert_allclose(jax.jit(module.apply)(variables, x)[:, 0], y, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize('rate, of_convolutions', [(0.0, 0.0), (0.3, 0.2), (0.5, 0.2), (0.6, 0.3)])
def test_dropout_of_a_vgg_goes_by_place(rate, of_convolutions):
  stages = nets.build('vgg', dropout=rate, **DIGITS).stages
  rates = {name: stage.keywords['dropout'] for name, stage in stages}
  assert len(rates) == 15 and rates['dense0'] == rates['dense1'] == rate
  convolutions = [r for name, r in rates.items() if 'conv' in name]
  np.testing.assert_allclose(convolutions, [of_convolutions] * 13, atol=1e-12)


def test_vit_is_what_it_says():
  settings = {**COLOUR, 'shape': (6, 4, 3)}
  module = network('vit', depth=2, patch=2, channels=8, heads=2, **settings)
  x = inputs((6, 4, 3))
  variables = moved(module, x)
  p = variables['params']
  assert set(variables) == {'params'}

  def layer_norm(x, layer):
    std = np.sqrt(x.var(-1, keepdims=True) + 1e-6)
    return (x - x.mean(-1, keepdims=True)) / std * layer['scale'] + layer['bias']

  def dense(x, layer):
    return x @ layer['kernel'] + layer['bias']

  def attention(x, block):
    q, k, v = np.split(dense(x, block['qkv']), 3, -1)
    heads = []
    for own in np.split(np.arange(8), 2):
      scores = np.exp(q[..., own] @ np.swapaxes(k[..., own], 1, 2) / np.sqrt(4))
      heads.append(scores / scores.sum(-1, keepdims=True) @ v[..., own])
    return dense(np.concatenate(heads, -1), block['out'])

  y = (x - np.float32(COLOUR['mean'])) / np.float32(COLOUR['std'])
  y = np.asarray(conv(y, p['patches']['conv'], 2)) + p['patches']['conv']['bias']
  # Expected position of row 2, column 1 among 3 x 2 patches.
  place = [np.sin(1), np.sin(1e-4), np.cos(1), np.cos(1e-4)]
  place += [np.sin(2), np.sin(2e-4), np.cos(2), np.cos(2e-4)]
  where = vit.positions(3, 2, 8)
  np.testing.assert_allclose(where[2, 1], place, rtol=1e-6)
  y = np.reshape(y + where, (5, 6, 8))
  for block in p['block0'], p['block1']:
    y = y + attention(layer_norm(y, block['norm1']), block)
    grown = np.asarray(nn.gelu(dense(layer_norm(y, block['norm2']), block['grow'])))
    y = y + dense(grown, block['shrink'])
  y = dense(layer_norm(y, p['block1']['norm_out']).mean(1), p['head'])
  np.testing.assert_allclose(jax.jit(module.apply)(variables, x)[:, 0], y, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize('sizes, window, stride', [((8, 6), 2, 2), ((7, 5), 2, 2), ((9, 6), 3, 2)])
def test_max_pool_and_its_gradient(sizes, window, stride):
  x = np.random.default_rng(0).normal(size=(2, 3, *sizes, 4)).astype(np.float32)
  y, pull_back = jax.vjp(lambda x: stack.max_pool(x, window, stride), x)
  folded, pull_folded = jax.vjp(
    lambda x: nn.max_pool(x, (window, window), (stride, stride), 'SAME'), x.reshape(6, *sizes, 4)
  )
  np.testing.assert_array_equal(y.reshape(folded.shape), folded)
  g = np.sin(np.arange(y.size, dtype=np.float32)).reshape(y.shape)
  expected = pull_folded(g.reshape(folded.shape))[0]
  np.testing.assert_allclose(pull_back(g)[0].reshape(expected.shape), expected, atol=1e-6)


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
  """Return outputs, new statistics, and gradients of parameters and inputs."""

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


@pytest.mark.parametrize('name', ['mlp', 'resnet', 'vit'])
def test_bfloat16_gives_float32_outputs_and_statistics(name):
  x = inputs((8, 8, 3))
  exact, low = (short(name, dtype=dtype, **COLOUR) for dtype in ('float32', 'bfloat16'))
  variables = moved(exact, x, amount=0.1)
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


@pytest.mark.parametrize('name', ['mlp', 'vit', 'wide_resnet'])
def test_batch_statistics_may_be_absent_or_empty(name):
  module, x = short(name, **DIGITS), inputs((8, 8, 1))
  variables = moved(module, x)
  params, stats = variables['params'], variables.get('batch_stats', {})
  run = jax.jit(lambda *args: module.apply(*args, True, mutable=['batch_stats']))
  y, new = run({'params': params, 'batch_stats': stats}, x)
  assert y.shape == (5, 1, 3) and y.dtype == jnp.float32
  assert jax.tree.structure(new.get('batch_stats', {})) == jax.tree.structure(stats)
  assert bool(stats) == (name == 'wide_resnet')


# ---- a user's backbone: dropout by place, pooling, dense stages


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

  def outputs(variables):
    return student.module.apply(
      variables, x, True, mutable=['batch_stats'], rngs={'dropout': jax.random.key(1)}
    )

  y, _ = jax.jit(outputs)(moved(student.module, x))
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
    ('resnet', {'shape': (2,)}, r'not inputs of shape \(2,\): use mlp'),
    ('vgg', {'depth': 12}, '11, 13, 16, 19, not 12'),
    ('vgg', {'channels': 0}, 'channels of vgg must be 1 or more, not 0'),
    ('imagenet_resnet', {'depth': 20}, '18, 34, 50, 101, 152, not 20'),
    ('vit', {'patch': 3}, 'patch=3 does not divide images of 8 x 8'),
    ('vit', {'channels': 30}, 'multiple of 4 and of heads=3, not 30'),
    ('vit', {'shape': (2,)}, r'not inputs of shape \(2,\): use mlp'),
    ('resnet', {'norm': 'instance'}, "unknown norm 'instance'"),
    ('mlp', {'norm': 'layer'}, "unknown setting of mlp 'norm'"),
    ('resnet', {'dropout': 1.5}, 'not 1.5'),
    ('resnet', {'form': 'gpu'}, "unknown form 'gpu'"),
    ('resnet', {'dtype': 'float16'}, "unknown dtype 'float16'"),
    ('resnet', {'mean': (0.5, 0.5)}, 'mean has 2 values'),
    ('resnet', {'std': (0.0,)}, r'every std must be positive, not \(0.0,\)'),
  ],
)
def test_wrong_settings_say_so(name, settings, message):
  with pytest.raises(ValueError, match=message):
    nets.build(name, **{**DIGITS, **settings})


def test_wrong_inputs_say_so():
  module, x = network('resnet', depth=8, **DIGITS), inputs((8, 8, 1))
  with pytest.raises(
    ValueError, match=r'shape \(9, 8, 1\), but the network was built for \(8, 8, 1\)'
  ):
    module.apply(moved(module, x), inputs((9, 8, 1)))
