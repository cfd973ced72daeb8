"""The converter against JAX: every primitive that it knows, programs within programs, refusals."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax
from onnx_models import agree, model, run

from ensdistill.exporting.onnx import convert, elementwise
from ensdistill.exporting.onnx.graph import NotSymbolic, Unsupported

pytest.importorskip('onnxruntime')
RANDOM = np.random.default_rng(0)


X = RANDOM.normal(size=(5, 4, 6)).astype(np.float32)
IMAGES = RANDOM.normal(size=(3, 9, 8, 4)).astype(np.float32)


def kernel(*shape):
  return jnp.asarray(RANDOM.normal(size=shape).astype(np.float32))


def conv(x, w, strides=(1, 1), padding='SAME', **more):
  numbers = ('NHWC', 'HWIO', 'NHWC')
  return lax.conv_general_dilated(x, w, strides, padding, dimension_numbers=numbers, **more)


POSITIVE = ('acosh', 'log', 'rsqrt', 'sqrt')
WITHIN_ONE = ('acos', 'asin', 'atanh')
FUNCTIONS = {'neg': lax.neg, 'logistic': lax.logistic, 'erf': lax.erf}


@pytest.mark.parametrize('name', sorted(elementwise.UNARY))
def test_unary(name):
  x = X
  if name in POSITIVE:
    x = np.abs(X) + 1
  if name in WITHIN_ONE:
    x = np.tanh(X)
  agree(FUNCTIONS.get(name) or getattr(lax, name), x)


ELEMENTWISE = {
  'add, sub, mul, div': lambda x: (x + 1) * (x - x[:, :1]) / (2 + x * x),
  'max, min, clamp': lambda x: jnp.maximum(x, 0.1) + jnp.minimum(x, x[:, :1]) + x.clip(-1, 1),
  'pow': lambda x: jnp.abs(x) ** 1.7 + x**3 + x**-2 + x**11 + x**0 + x**1,
  'comparisons': lambda x: (x > 0) | (x < -1) | ~(x <= 0.5) & (x >= 0.2) ^ (x != 1) & (x == 2),
  'bool comparisons': lambda x: (x > 0) < (x > 0.5),
  'rsqrt, square, cbrt': lambda x: lax.rsqrt(x * x + 1) + jnp.square(x) + jnp.cbrt(x),
  'exp2, erfc, log2': lambda x: jnp.exp2(x) + lax.erfc(x) + jnp.log2(x * x + 1),
  'rounding': lambda x: jnp.round(x * 3) + lax.round(x * 3, lax.RoundingMethod.AWAY_FROM_ZERO),
  'rem': lambda x: lax.rem(x, jnp.full_like(x, 0.7)),
  'is_finite': lambda x: jnp.isfinite(jnp.log(x)),
  'where': lambda x: jnp.where(x > 0, x, -2 * x),
  'select of three': lambda x: lax.select_n((x > 0).astype(jnp.int32) + (x > 1), x, 2 * x, 3 * x),
  'types': lambda x: (x * 3).astype(jnp.int32) % 5 + (x > 0).astype(jnp.int32),
  'softmax': lambda x: jax.nn.softmax(x) + jax.nn.logsumexp(x, -1, keepdims=True),
  'activations': lambda x: nn.gelu(x) + nn.silu(x) + nn.leaky_relu(x) + nn.elu(x) + nn.relu6(x),
}


@pytest.mark.parametrize('name', ELEMENTWISE)
@pytest.mark.filterwarnings('ignore:invalid value')
def test_elementwise(name):
  agree(ELEMENTWISE[name], np.round(X, 2), rtol=2e-5)


TABLE = kernel(7, 3)


def drawn(x):
  jax.random.normal(jax.random.key(0), x.shape[1:])
  return x + 1


SHAPES = {
  'reshape': lambda x: x.reshape(-1, 24).reshape(x.shape[0], 2, 12),
  'reshape of the batch': lambda x: x.reshape(-1, 6),
  'transpose': lambda x: x.transpose(2, 0, 1),
  'transpose of ones': lambda x: x[:, :, None].transpose(0, 2, 1, 3),
  'broadcast': lambda x: jnp.broadcast_to(x[:, :1], x.shape) + jnp.zeros((4, 6)),
  'broadcast result': lambda x: jnp.broadcast_to(x[:, :1], x.shape),
  'known result': lambda x: jnp.ones_like(x) * 3,
  'reshape of a broadcast': lambda x: (jnp.zeros_like(x) + 2).reshape(x.shape[0], 24) + 1,
  'squeeze, expand': lambda x: x[:, 0:1].squeeze(1)[:, None, :, None],
  'slice': lambda x: x[:, 1:4:2, ::3],
  'slice of a broadcast': lambda x: jnp.broadcast_to(x[:, :1], x.shape)[:, 1:3],
  'index': lambda x: x[..., 2, :] + x[:, -1],
  'grid': lambda x: x[:, 1::2][..., 0:5:2],
  'rows in another order': lambda x: x[:, jnp.array([3, 0, 0])] + x[:, jnp.array([2])],
  'pairs of places': lambda x: x[:, jnp.array([[1], [2]]), jnp.array([[5, 0, 1]])],
  'take at the end': lambda x: jnp.take(x, jnp.array([5, 1]), axis=2, mode='clip'),
  'take at computed places': lambda x: jnp.take(TABLE, x.argmax(-1), axis=0, mode='clip'),
  'take with NaN outside': lambda x: TABLE.at[x.astype(jnp.int32) * 4].get(mode='fill'),
  'concatenate': lambda x: jnp.concatenate([x, x[:, :1], jnp.ones_like(x)], 1),
  'stack': lambda x: jnp.stack([x, 2 * x, jnp.ones_like(x)], 2),
  'unstack': lambda x: sum(jnp.unstack(x, axis=1)),
  'tile': lambda x: jnp.tile(x, (1, 2, 1)) + jnp.repeat(x, 2, 1),
  'split': lambda x: jnp.split(x, [2, 3], -1)[2] + jnp.split(x, 3, -1)[0].sum(-1, keepdims=True),
  'pad': lambda x: jnp.pad(x, [(0, 0), (1, 2), (0, 3)], constant_values=7),
  'negative pad': lambda x: lax.pad(x, 0.0, [(0, 0, 0), (-1, 1, 0), (2, -3, 0)]),
  'pad between': lambda x: lax.pad(x, 3.0, [(0, 0, 0), (1, 0, 2), (0, -1, 1)]),
  'sort': lambda x: jnp.sort(x, 1) + jnp.median(x, axis=2, keepdims=True),
  'top': lambda x: lax.top_k(x, 3)[0] + lax.top_k(x, 3)[1],
  'random numbers that nothing needs': lambda x: drawn(x),
  'rev': lambda x: x[:, ::-1] + jnp.flip(x, (1, 2)),
  'iota': lambda x: x + jnp.arange(6, dtype=jnp.float32),
  'one hot': lambda x: jax.nn.one_hot(x.argmax(-1), 6),
  'dynamic slice': lambda x: lax.dynamic_slice_in_dim(x, 9, 2, 1),
  'size of the batch': lambda x: x / x.shape[0],
}


@pytest.mark.parametrize('name', SHAPES)
def test_shapes(name):
  with jax.numpy_rank_promotion('allow'):
    agree(SHAPES[name], X)


LINEAR = {
  'dense': lambda x: x @ jnp.asarray(kernel(6, 3)),
  'sums': lambda x: x.sum(1) + x.mean((1, 2))[:, None] + x.prod(1) + x.var(1),
  'extremes': lambda x: x.max(-1) - x.min(-1),
  'sums of broadcasts': lambda x: jnp.broadcast_to(x[:, :1], x.shape).sum((1, 2)),
  'sum of ones': lambda x: x[:, :1].sum(1),
  'any, all': lambda x: (x > 1).any(-1) | (x > -1).all(-1),
  'places': lambda x: x.argmax(1) + x.argmin(1),
  'cumsum': lambda x: jnp.cumsum(x, 1) + lax.cumsum(x, 2, reverse=True),
  'batched product': lambda x: jnp.einsum('bij,bkj->bik', x, x),
  'outer product': lambda x: jnp.einsum('bij,bk->bijk', x, x[:, 0]),
  'heads': lambda x: jnp.einsum('bij,mjk->bmik', x, kernel(3, 6, 2)),
  'members': lambda x: jnp.einsum('bij,ijk->bik', x, kernel(4, 6, 2)),
  'to a number': lambda x: jnp.einsum('bij,ij->b', x, kernel(4, 6)),
  'vectors': lambda x: jnp.einsum('bij,bij->bi', x, 2 * x),
}


@pytest.mark.parametrize('name', LINEAR)
def test_linear(name):
  with jax.numpy_rank_promotion('allow'):
    RANDOM_STATE = RANDOM.bit_generator.state

    def function(x):
      RANDOM.bit_generator.state = RANDOM_STATE  # the same weights each time
      return LINEAR[name](x)

    agree(function, X, atol=1e-5)


W, DEEP = kernel(3, 3, 4, 6), kernel(3, 2, 2, 6)
CONVOLUTIONS = {
  'same': lambda x: conv(x, W),
  'strides': lambda x: conv(x, W, (2, 3), 'VALID'),
  'padding': lambda x: conv(x, W, (1, 2), [(0, 3), (2, 1)]),
  'groups': lambda x: conv(x, DEEP, feature_group_count=2),
  'dilated': lambda x: conv(x, W, rhs_dilation=(2, 1)),
  'transposed': lambda x: conv(x, W, padding=[(1, 2), (2, 1)], lhs_dilation=(2, 3)),
  'batch norm': lambda x: conv(x, W) * jnp.arange(1.0, 7.0) + 3,
  'shift and scale': lambda x: (2 - conv(x, W)) / 3 - jnp.arange(6.0),
  'along the image': lambda x: conv(x, W) * jnp.arange(8.0)[:, None],
  'by another network': lambda x: conv(x, W) * conv(x, 2 * W).mean((1, 2), keepdims=True),
  'vmapped': lambda x: jax.vmap(conv, (None, 0), 1)(x, jnp.stack([W, 2 * W])),
  'members': lambda x: jax.vmap(conv, (1, 0), 1)(jnp.stack([x, -x], 1), jnp.stack([W, 2 * W])),
  'max pool': lambda x: nn.max_pool(x, (3, 2), (2, 1), 'SAME'),
  'min pool': lambda x: nn.pool(x, jnp.inf, lax.min, (2, 2), (1, 1), 'VALID'),
  'average pool': lambda x: nn.avg_pool(x, (2, 2), (2, 2)),
  'average pool of edges': lambda x: nn.avg_pool(x, (3, 3), (2, 2), 'SAME'),
}


@pytest.mark.parametrize('name', CONVOLUTIONS)
def test_convolutions(name):
  with jax.numpy_rank_promotion('allow'):
    agree(CONVOLUTIONS[name], IMAGES, rtol=1e-4, atol=1e-4)


def test_batch_norm_costs_no_node():
  with jax.numpy_rank_promotion('allow'):
    made = agree(CONVOLUTIONS['batch norm'], IMAGES, rtol=1e-4, atol=1e-4)
  kinds = {node.op_type for node in made.graph.node}
  assert kinds == {'Transpose', 'Conv'}


LAYOUTS = {
  'elementwise': lambda x: conv(nn.relu(conv(x, W) + 1) * 2, BACK),
  'with images': lambda x: conv(x, BACK_4) + x * x.mean((1, 2), keepdims=True),
  'two layouts': lambda x: conv(x, BACK_4) + conv(x, BACK_4).transpose(0, 2, 1, 3)[:, :, :8].sum(),
  'members': lambda x: members(x, jnp.arange(1.0, 17.0).reshape(2, 2, 1, 1, 4) / 8),
  'pooled': lambda x: jnp.pad(conv(x, W), [(0, 0), (1, 0), (0, 2), (0, 0)])[:, ::2, 1:].max((1, 2)),
  'sums of channels': lambda x: conv(x, W).sum(3, keepdims=True) + x.sum((1, 3))[:, None, :, None],
  'flat': lambda x: conv(x, W).reshape(x.shape[0], -1),
  'cut channels': lambda x: conv(x, W).reshape(x.shape[0], 9, 8, 2, 3).sum(-1),
  'rotated': lambda x: conv(conv(x, BACK_4).transpose(0, 2, 1, 3), BACK_4),
}  # fmt: skip
BACK, BACK_4 = kernel(3, 3, 6, 4), kernel(3, 3, 4, 4)


def members(x, scales):
  """A layer of a BatchEnsemble: the members' axis moves in front of the images and back."""
  y = x[:, None] * scales[0]
  y = conv(y.reshape(-1, *x.shape[1:]), BACK_4)
  return y.reshape(x.shape[0], 2, *x.shape[1:]) * scales[1]


@pytest.mark.parametrize('name', LAYOUTS)
def test_layouts(name):
  with jax.numpy_rank_promotion('allow'):
    batch = 3 if name == 'two layouts' else None
    agree(LAYOUTS[name], IMAGES, batch=batch, rtol=1e-4, atol=1e-3)


def test_between_convolutions_nothing_is_transposed():
  made = model(LAYOUTS['elementwise'], IMAGES)
  kinds = [node.op_type for node in made.graph.node]
  assert kinds == ['Transpose', 'Conv', 'Relu', 'Mul', 'Conv', 'Transpose']


SLOPES = {
  'leaky': (lambda x: nn.leaky_relu(x, 0.2), ['LeakyRelu']),
  'leaky image': (
    lambda x: nn.leaky_relu(conv(x, BACK_4)),
    ['Transpose', 'Conv', 'LeakyRelu', 'Transpose'],
  ),
  'another bound': (lambda x: jnp.where(x >= 1, x, 0.2 * x), ['GreaterOrEqual', 'Mul', 'Where']),
  'another case': (
    lambda x: jnp.where(x >= 0, x, 0.2 * x * x),
    ['GreaterOrEqual', 'Mul', 'Mul', 'Where'],
  ),
  'sums that stay': (lambda x: x - x.sum(1, keepdims=True), ['ReduceSum', 'Sub']),
}  # fmt: skip


@pytest.mark.parametrize('name', SLOPES)
def test_what_one_operator_does(name):
  function, kinds = SLOPES[name]
  made = agree(function, IMAGES, rtol=1e-4, atol=1e-4)
  assert [node.op_type for node in made.graph.node] == kinds


def test_outputs_may_be_one_tensor_an_input_or_known():
  import onnxruntime

  def call(variables, x):
    return {'a': x, 'b': x + 1, 'c': x + 1, 'd': jnp.zeros_like(x)}

  names = ['a', 'b', 'c', 'd']
  made = convert.convert(call, {}, lambda b: jax.ShapeDtypeStruct((b, 2), jnp.float32), names=names)
  found = onnxruntime.InferenceSession(made.SerializeToString()).run(names, {'input': X[:, 0, :2]})
  for values, expected in zip(found, (0, 1, 1, None)):
    shown = 0 * X[:, 0, :2] if expected is None else X[:, 0, :2] + expected
    np.testing.assert_allclose(values, shown)


def loop(x):
  def step(total, row):
    return total + row, total * row

  total, rows = lax.scan(step, x[:, 0], x.swapaxes(0, 1), reverse=True)
  return total + rows.sum(0) + lax.map(jnp.sin, x.swapaxes(0, 1))[1]


def branches(x):
  known = lax.cond(len(x.shape) == 3, jnp.sin, jnp.cos, x)
  return lax.cond(known.sum() > 0, lambda x: x + 1, lambda x: x - 1, known)


@jax.custom_jvp
def doubled(x):
  return 2 * x


@jax.custom_vjp
def tripled(x):
  return 3 * x


doubled.defjvps(lambda t, y, x: t)
tripled.defvjp(lambda x: (3 * x, None), lambda _, g: (g,))


def calls(x):
  jax.debug.print('{}', x.sum())
  return jax.checkpoint(jax.jit(doubled))(x) + tripled(x)


@pytest.mark.parametrize('function', [loop, branches, calls])
def test_programs_within_programs(function):
  agree(function, X)


def test_weights_have_their_names_and_equal_ones_are_stored_once():
  variables = {'params': {'a': np.ones((6, 6), np.float32), 'b': np.ones((6, 6), np.float32)}}

  def function(variables, x):
    p = variables['params']
    return x @ p['a'] + x @ p['b'] + x @ p['a']

  made = model(function, X, variables=variables)
  stored = {tensor.name: list(tensor.dims) for tensor in made.graph.initializer}
  assert stored == {'params/a': [6, 6]}
  assert [node.op_type for node in made.graph.node].count('MatMul') == 1
  np.testing.assert_allclose(run(made, X), 3 * X.sum(-1, keepdims=True).repeat(6, -1), rtol=1e-5)


def test_what_is_unknown_is_named():
  with pytest.raises(Unsupported, match="'cummax'"):
    model(lambda x: lax.cummax(x, 1), X)
  with pytest.raises(Unsupported, match='sort of several arrays'):
    model(lambda x: jnp.argsort(x, -1), X)
  with pytest.raises(Unsupported, match="'while'"):
    model(lambda x: lax.while_loop(lambda x: x.sum() < 9, lambda x: x + 1, x), X)


@pytest.mark.parametrize(
  'function', [lambda x: x[:2], lambda x: x[::-1], lambda x: x + jnp.arange(len(x))[:, None, None]]
)
def test_what_needs_a_fixed_batch_says_so(function):
  with pytest.raises(NotSymbolic, match='fixed batch|open batch'):
    model(function, X)
  agree(function, X, batch=5)


@settings(max_examples=12, deadline=None)
@given(
  st.lists(st.integers(1, 3), min_size=1, max_size=3),
  st.data(),
)
def test_any_shape_broadcasts(sizes, drawn):
  """Random broadcasts, transpositions and sums of small arrays."""
  x = RANDOM.normal(size=(2, *sizes)).astype(np.float32)
  order = [0, *drawn.draw(st.permutations(range(1, len(sizes) + 1)))]
  wide = drawn.draw(st.integers(1, 4))
  axes = tuple(drawn.draw(st.sets(st.integers(1, len(sizes) + 1), min_size=1)))

  def function(x, xp=jnp):
    y = xp.broadcast_to(x[..., None], (*x.shape, wide)) * 2
    y = y.transpose(*order, len(sizes) + 1)
    return (y - y.sum(axes, keepdims=True)).sum(axes)

  found = run(model(function, x), x)
  np.testing.assert_allclose(found, function(x, np), rtol=1e-4, atol=1e-4)
