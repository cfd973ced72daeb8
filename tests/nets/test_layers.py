import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ensdistill.nets import cpu, layers

FORMS = 'plain', 'cpu'


@pytest.fixture
def float64():
  with jax.enable_x64(True):
    yield


def randoms(seed, *shapes):
  rng = np.random.default_rng(seed)
  return [rng.normal(size=shape) for shape in shapes]


def assert_close(a, b, tolerance=1e-12):
  for p, q in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
    assert p.shape == q.shape
    p, q = np.asarray(p), np.asarray(q)
    assert np.abs(p - q).max() <= tolerance * (1 + np.abs(q).max())


def loop_conv(x, w, stride, pads):
  """Convolve by an explicit loop over output positions."""
  x = np.pad(x, ((0, 0), *pads, (0, 0)))
  kh, kw = w.shape[:2]
  rows = range(0, x.shape[1] - kh + 1, stride)
  columns = range(0, x.shape[2] - kw + 1, stride)

  def patch(i, j):
    return np.einsum('bhwc,hwcd->bd', x[:, i : i + kh, j : j + kw], w)

  return np.stack([np.stack([patch(i, j) for j in columns], 1) for i in rows], 1)


# batch, (height, width), channels in and out, kernel, stride, padding
CONVOLUTIONS = [
  (1, (8, 8), 3, 4, 3, 1, 'SAME'),
  (5, (28, 28), 1, 2, 3, 2, 'SAME'),
  (37, (16, 16), 16, 2, 3, 1, 'SAME'),  # slices of 16, 16 and 5 examples
  (67, (8, 8), 2, 3, 3, 2, 'SAME'),
  (3, (9, 6), 2, 3, (5, 2), (1, 3), 'SAME'),
  (4, (9, 9), 2, 3, 1, 2, 'SAME'),
  (4, (8, 8), 2, 3, 1, 2, 1),
  (2, (15, 14), 3, 4, 7, 2, 3),
  (2, (8, 8), 2, 3, 3, 3, 0),
  (34, (16, 16), 3, 4, 7, 2, 'SAME'),  # the stem for large images
  (3, (8, 8), 3, 5, 4, 4, 'SAME'),  # patches
]


@pytest.mark.parametrize('onednn', [False, True])
@pytest.mark.parametrize('batch, sizes, cin, cout, kernel, stride, padding', CONVOLUTIONS)
def test_conv_forms_agree_with_their_gradients(
  float64, batch, sizes, cin, cout, kernel, stride, padding, onednn
):
  kernel_shape = (*np.broadcast_to(kernel, 2), cin, cout)
  x, w = randoms(0, (batch, *sizes, cin), kernel_shape)

  @functools.partial(jax.jit, static_argnums=2)
  def both_ways(x, w, form):
    conv = layers.Conv(cout, kernel, stride, padding, dtype=jnp.float64, form=form)
    y, pull_back = jax.vjp(lambda x, w: conv.apply({'params': {'kernel': w}}, x), x, w)
    return y, pull_back(jnp.sin(jnp.arange(y.size)).reshape(y.shape))

  with cpu.for_onednn(onednn):
    assert_close(*[both_ways(x, w, form) for form in FORMS])


@pytest.mark.parametrize(
  'batch, size, members, inputs, kernel, stride, bias',
  [
    (48, 8, 3, 3, 3, 1, 'member'),  # whole slices
    (37, 5, 1, 1, 3, 2, 'member'),  # a prime batch
    (1, 1, 2, 2, 3, 1, 'shared'),
    (3, 6, 3, 1, 3, 2, 'shared'),  # all members see the same images
    (4, 5, 2, 2, 1, 2, 'member'),  # a product of matrices
    (3, 4, cpu.UNROLLED + 1, cpu.UNROLLED + 1, 3, 1, 'shared'),  # a loop over members
    (2, 4, cpu.UNROLLED + 1, 1, 3, 2, 'member'),
  ],
)
def test_batch_ensemble_forms_agree_with_their_gradients(
  float64, batch, size, members, inputs, kernel, stride, bias
):
  """Two layers run under vmap, to cover the batching rules."""

  def conv(form):
    return layers.BatchEnsembleConv(
      4, kernel, stride, bias=bias, use_bias=True, members=members, dtype=jnp.float64, form=form
    )

  (x,) = randoms(0, (2, batch, inputs, size, size, 3))
  params = jax.vmap(lambda key, x: conv('plain').init(key, x))(
    jax.random.split(jax.random.key(0)), x
  )
  params = jax.tree.map(
    lambda leaf: leaf + jnp.cos(jnp.arange(leaf.size)).reshape(leaf.shape), params
  )

  def both_ways(form):
    def loss(params, x):
      y = conv(form).apply(params, x)
      return (y * jnp.sin(jnp.arange(y.size)).reshape(y.shape)).sum()

    return jax.jit(jax.vmap(jax.value_and_grad(loss, (0, 1))))(params, x)

  plain = both_ways('plain')
  for form in ('cpu', 'tpu'):
    assert_close(both_ways(form), plain)


@pytest.mark.parametrize('form', FORMS)
@pytest.mark.parametrize(
  'kernel, stride, padding, pads', [(3, 1, 'SAME', 1), (3, 2, 1, 1), (1, 2, 'SAME', 0)]
)
def test_conv_is_a_sum_over_patches(float64, form, kernel, stride, padding, pads):
  x, w = randoms(0, (2, 7, 5, 3), (kernel, kernel, 3, 4))
  conv = layers.Conv(4, kernel, stride, padding, dtype=jnp.float64, form=form)
  expected = loop_conv(x, w, stride, ((pads, pads), (pads, pads)))
  assert_close(conv.apply({'params': {'kernel': w}}, x), expected)


def test_conv_gradients_hold_under_vmap_map_and_scan(float64):
  batch = cpu.SLICE + 1  # a whole slice and a rest
  xs, ws, gs = randoms(0, (3, batch, 8, 8, 2), (3, 3, 3, 2, 4), (3, batch, 4, 4, 4))
  pads = ((0, 1), (0, 1))

  def gradients(conv):
    return jax.grad(lambda x, w, g: (conv(x, w, (2, 2), pads) * g).sum(), (0, 1))

  one = gradients(cpu.conv)

  @jax.jit
  def every_way(xs, ws, gs):
    _, scanned = jax.lax.scan(lambda carry, args: (carry, one(*args)), 0.0, (xs, ws, gs))
    return (
      jax.vmap(one)(xs, ws, gs),
      jax.lax.map(lambda args: one(*args), (xs, ws, gs)),
      scanned,
      jax.vmap(jax.vmap(one, (0, None, None)), (None, 0, None))(xs, ws, gs[0]),
    )

  plain = jax.jit(gradients(cpu.convolve))

  def one_by_one(*args):
    return jax.tree.map(lambda *a: jnp.stack(a), *[plain(*each) for each in zip(*args)])

  expected = one_by_one(xs, ws, gs)
  *single, nested = every_way(xs, ws, gs)
  for result in single:
    assert_close(result, expected)
  for m, w in enumerate(ws):
    expected = one_by_one(xs, [w] * 3, [gs[0]] * 3)
    assert_close([a[m] for a in nested], expected)


@pytest.mark.parametrize('form', FORMS)
def test_layers_take_any_leading_axes(form):
  conv, dense = layers.Conv(4, 3, 2, form=form), layers.Dense(4)
  x, w_conv, w_dense = (np.float32(a) for a in randoms(0, (2, 3, 8, 8, 2), (3, 3, 2, 4), (2, 4)))
  params = {'kernel': w_conv}, {'kernel': w_dense, 'bias': np.ones(4, np.float32)}

  @jax.jit
  def run(x):
    return conv.apply({'params': params[0]}, x), dense.apply({'params': params[1]}, x)

  spread, folded = run(x), run(x.reshape(6, 8, 8, 2))
  assert spread[0].shape == (2, 3, 4, 4, 4) and spread[1].shape == (2, 3, 8, 8, 4)
  for a, b in zip(spread, folded):
    np.testing.assert_allclose(a.reshape(b.shape), b, rtol=1e-5, atol=1e-5)


# ---- batch norm


def numpy_batch_norm(x, scale, bias):
  axes = tuple(range(x.ndim - 1))
  mean, var = x.mean(axes), x.var(axes)
  return (x - mean) / np.sqrt(var + 1e-5) * scale + bias, mean, var


def norm_variables(channels):
  scale, bias, mean, var = randoms(1, *[(channels,)] * 4)
  return {
    'params': {'scale': scale, 'bias': bias},
    'batch_stats': {'mean': mean, 'var': np.exp(var)},
  }


@pytest.mark.parametrize('form', FORMS)
@pytest.mark.parametrize(
  'shape', [(1, 8, 8, 16), (37, 28, 28, 3), (5, 2, 7, 3, 4), (13, 5), (2, 1)]
)
def test_batch_norm_statistics_and_momentum(float64, form, shape):
  variables = norm_variables(shape[-1])
  (x,) = randoms(0, shape)
  x = 2 * x + 3
  norm = layers.BatchNorm(train=True, dtype=jnp.float64, form=form)
  y, new = jax.jit(lambda *args: norm.apply(*args, mutable=['batch_stats']))(variables, x)
  params, old = jax.tree.map(np.asarray, (variables['params'], variables['batch_stats']))
  x = np.asarray(x)
  expected, mean, var = numpy_batch_norm(x, params['scale'], params['bias'])
  assert_close(y, expected, 1e-10)
  running = jax.tree.map(np.asarray, new['batch_stats'])
  assert_close(running['mean'], 0.9 * old['mean'] + 0.1 * mean)
  assert_close(running['var'], 0.9 * old['var'] + 0.1 * var, 1e-10)
  still = norm.clone(train=False).apply({**variables, 'batch_stats': running}, x)
  std = np.sqrt(running['var'] + 1e-5)
  assert_close(still, (x - running['mean']) / std * params['scale'] + params['bias'])


@pytest.mark.parametrize('shape', [(37, 8, 8, 16), (3, 2, 7, 3, 4), (13, 5)])
def test_batch_norm_forms_agree_with_their_gradients(float64, shape):
  variables = norm_variables(shape[-1])
  x, g = randoms(0, shape, shape)

  @functools.partial(jax.jit, static_argnums=2)
  def both_ways(params, x, form):
    norm = layers.BatchNorm(train=True, dtype=jnp.float64, form=form)

    def normalised(params, x):
      return norm.apply({**variables, 'params': params}, x, mutable=['batch_stats'])

    y, pull_back, new = jax.vjp(normalised, params, x + 1, has_aux=True)
    return y, new, pull_back(g)

  assert_close(*[both_ways(variables['params'], x, form) for form in FORMS], 1e-10)


@pytest.mark.parametrize('size', [1, 16, 17, 48, 16 * 16 * 64 * 3])
def test_channel_sums_of_any_size(float64, size):
  a, b = randoms(0, (size, 3), (size, 3))
  np.testing.assert_allclose(cpu.channel_sums(a, b), (a * b).sum(0), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize('form', FORMS)
def test_batch_norm_leaves_frozen_statistics_alone(form):
  norm = layers.BatchNorm(train=True, form=form)
  x = jnp.arange(12.0).reshape(4, 3)
  variables = norm.init(jax.random.key(0), x)
  np.testing.assert_array_equal(variables['batch_stats']['mean'], 0)  # init does not update them
  assert norm.apply(variables, x).shape == x.shape  # immutable statistics: no update, no error


# ---- norms without running statistics


@pytest.mark.parametrize('channels, own', [(32, 16), (24, 8), (6, 2)])
def test_group_norm_is_over_groups_of_an_image(float64, channels, own):
  x, scale, bias = randoms(0, (2, 3, 5, 4, channels), (channels,), (channels,))
  norm = layers.GroupNorm(dtype=jnp.float64)
  variables = {'params': {'scale': scale, 'bias': bias}}
  parts = [x[..., i : i + own] for i in range(0, channels, own)]
  mean = np.concatenate(
    [np.broadcast_to(p.mean((2, 3, 4), keepdims=True), p.shape) for p in parts], -1
  )
  var = np.concatenate(
    [np.broadcast_to(p.var((2, 3, 4), keepdims=True), p.shape) for p in parts], -1
  )
  expected = (x - mean) / np.sqrt(var + 1e-5) * scale + bias
  assert_close(norm.apply(variables, x), expected, 1e-10)


def test_layer_norm_is_over_the_channels_of_a_position(float64):
  x, scale, bias = randoms(0, (2, 3, 5, 4, 6), (6,), (6,))
  variables = {'params': {'scale': scale, 'bias': bias}}
  std = np.sqrt(x.var(-1, keepdims=True) + 1e-6)
  expected = (x - x.mean(-1, keepdims=True)) / std * scale + bias
  assert_close(layers.LayerNorm(dtype=jnp.float64).apply(variables, x), expected, 1e-10)


@pytest.mark.parametrize('norm', [layers.GroupNorm, layers.LayerNorm])
def test_norms_have_float32_statistics(norm):
  x = (100 + jnp.arange(256.0).reshape(1, 4, 4, 16) % 7).astype(jnp.bfloat16)
  low = norm(dtype=jnp.bfloat16)
  variables = low.init(jax.random.key(0), x)
  assert set(variables) == {'params'}
  y = low.apply(variables, x)
  assert y.dtype == jnp.bfloat16
  np.testing.assert_allclose(np.float32(y), norm().apply(variables, x), atol=0.02)


# ---- bfloat16


@pytest.mark.parametrize(
  'layer',
  [layers.Dense(4, dtype=jnp.bfloat16)]
  + [layers.Conv(4, form=form, dtype=jnp.bfloat16) for form in FORMS],
)
def test_bfloat16_computes_low_and_keeps_high(layer):
  x = np.float32(np.random.default_rng(0).normal(size=(4, 8, 8, 3)))
  variables = jax.jit(layer.init)(jax.random.key(0), x)
  assert {a.dtype for a in jax.tree.leaves(variables)} == {jnp.dtype('float32')}
  y = jax.jit(layer.apply)(variables, x)
  assert y.dtype == jnp.bfloat16
  exact = jax.jit(layer.clone(dtype=jnp.float32).apply)(variables, x)
  np.testing.assert_allclose(np.float32(y), exact, atol=0.05)

  def total(variables):
    return layer.apply(variables, x).astype(jnp.float32).sum()

  grads = jax.jit(jax.grad(total))(variables)
  assert {a.dtype for a in jax.tree.leaves(grads)} == {jnp.dtype('float32')}


@pytest.mark.parametrize('form', FORMS)
def test_bfloat16_weight_gradients_add_up_in_float32(form):
  """Add many slices of 16 to 8,192; a bfloat16 sum would round each slice away."""
  x = np.r_[np.float32([8192]), np.ones(40 * cpu.SLICE, np.float32)].reshape(-1, 1, 1, 1)
  x = x * np.ones((1, 2, 2, 1), np.float32)
  layer = layers.Conv(1, 2, padding=0, dtype=jnp.bfloat16, form=form)
  w = {'params': {'kernel': np.ones((2, 2, 1, 1), np.float32)}}

  def total(w):
    return layer.apply(w, x).astype(jnp.float32).sum()

  found = jax.jit(jax.grad(total))(w)['params']['kernel']
  np.testing.assert_allclose(found, 8192 + 40 * cpu.SLICE, rtol=2**-7)


@pytest.mark.parametrize('form', FORMS)
def test_bfloat16_batch_norm_has_float32_statistics(form):
  # The mean of 2,048 values near 1: a bfloat16 sum would stop growing at 256.
  x = (1 + jnp.arange(4096.0).reshape(-1, 2) % 7 / 64).astype(jnp.bfloat16)
  norm = layers.BatchNorm(train=True, dtype=jnp.bfloat16, form=form)
  variables = norm.init(jax.random.key(0), x)
  y, new = norm.apply(variables, x, mutable=['batch_stats'])
  assert y.dtype == jnp.bfloat16 and new['batch_stats']['mean'].dtype == jnp.float32
  exact = np.asarray(x, np.float64).mean(0)
  np.testing.assert_allclose(new['batch_stats']['mean'], 0.1 * exact, rtol=1e-6)


# ---- batch ensemble


MEMBERS = 3
DENSE = layers.BatchEnsembleDense(4, members=MEMBERS), layers.Dense(4), (5, MEMBERS, 6), (6, 4)
GRID = (
  layers.BatchEnsembleDense(4, members=MEMBERS, axes=3),
  layers.Dense(4),
  (5, MEMBERS, 2, 3, 6),
  (6, 4),
)
CONV = (
  layers.BatchEnsembleConv(4, 3, 2, use_bias=True, members=MEMBERS),
  layers.Conv(4, 3, 2, use_bias=True),
  (5, MEMBERS, 8, 8, 2),
  (3, 3, 2, 4),
)


@pytest.mark.parametrize('bias', ['shared', 'member'])
@pytest.mark.parametrize('ensemble, plain, shape, kernel_shape', [DENSE, GRID, CONV])
def test_batch_ensemble_is_one_layer_per_member(ensemble, plain, shape, kernel_shape, bias):
  x, kernel, r, s, own, shared = (
    np.float32(a)
    for a in randoms(
      0, shape, kernel_shape, (MEMBERS, kernel_shape[-2]), (MEMBERS, 4), (MEMBERS, 4), (4,)
    )
  )
  params = {'kernel': kernel, 'r': r, 's': s} | (
    {'b': own} if bias == 'member' else {'bias': shared}
  )
  run = jax.jit(ensemble.clone(bias=bias).apply)
  kernels = np.einsum('...io,mi,mo->m...io', kernel, r, s)
  biases = own if bias == 'member' else s * shared[None]
  each = jax.vmap(plain.apply, (0, 1), 1)({'params': {'kernel': kernels, 'bias': biases}}, x)
  np.testing.assert_allclose(run({'params': params}, x), each, rtol=1e-4, atol=1e-4)
  # All members see the same input.
  spread = run({'params': params}, x[:, :1])
  np.testing.assert_allclose(spread[:, 0], each[:, 0], rtol=1e-4, atol=1e-4)
  repeated = run({'params': params}, np.repeat(x[:, :1], MEMBERS, 1))
  np.testing.assert_allclose(spread, repeated, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize('bias, leaf, shape', [('shared', 'bias', (4,)), ('member', 'b', (3, 4))])
def test_batch_ensemble_starts_with_equal_members(bias, leaf, shape):
  layer = DENSE[0].clone(bias=bias)
  params = jax.jit(layer.init)(jax.random.key(0), np.ones((2, 1, 6), np.float32))['params']
  assert set(params) == {'kernel', 'r', 's', leaf}
  np.testing.assert_array_equal(params[leaf], np.zeros(shape))
  np.testing.assert_array_equal(params['r'], 1)
  np.testing.assert_array_equal(params['s'], 1)


def test_he_initialisation():
  x = jnp.ones((1, 4, 4, 64))
  kernel = jax.jit(layers.Conv(256, 3).init)(jax.random.key(0), x)['params']['kernel']
  np.testing.assert_allclose(kernel.std(), (2 / (9 * 64)) ** 0.5, rtol=0.02)
