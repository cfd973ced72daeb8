import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from ensdistill import nets, students
from ensdistill.nets import layers

M, K = 3, 4
X = np.random.default_rng(0).uniform(size=(4, 8, 8, 1)).astype(np.float32)


def backbone(name='resnet', **settings):
  return tiny.backbone(name, **settings)


def student(kind, name='resnet', members=M, **settings):
  return students.make(kind, backbone(name), K, members=members, **settings)


def moved(student, seed=1):
  return tiny.moved(student.module, X, seed=seed)


def close(a, b, tolerance=1e-5):
  for p, q in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
    np.testing.assert_allclose(p, q, rtol=0, atol=tolerance * max(1, np.abs(q).max()))


def paths(tree):
  return {tuple(k.key for k in path): a for path, a in jax.tree_util.tree_leaves_with_path(tree)}


KINDS = [
  ('single', {}),
  ('multi_head', {'head_stages': 0}),
  ('multi_head', {'head_stages': 1}),
  ('batch_ensemble', {}),
  ('batch_ensemble', {'bias': 'member'}),
]


@pytest.mark.parametrize(
  'name, kind, settings',
  [
    *[('resnet', *kind) for kind in KINDS],
    ('wide_resnet', 'multi_head', {'head_stages': 1}),
    ('mlp', 'multi_head', {'head_stages': 2}),
    ('mlp', 'batch_ensemble', {'bias': 'member'}),
  ],
)
def test_members_by_index_are_those_among_all(name, kind, settings):
  made = student(kind, name, **settings)
  assert made.freeze({}).size == made.size == (1 if kind == 'single' else M)

  @jax.jit
  def both(variables, index):
    frozen = made.freeze(variables)
    return frozen.outputs(X), frozen.outputs(X, index)

  variables = moved(made)
  index = jnp.array([2, 0]) if made.size > 1 else jnp.array([0])
  every, some = both(variables, index)
  assert every.shape == (4, made.size, K) and every.dtype == jnp.float32
  close(some, every[:, index])
  if made.size > 1:
    assert min(np.abs(every[:, i] - every[:, j]).max() for i, j in [(0, 1), (0, 2), (1, 2)]) > 1e-3


def test_an_index_computes_only_those_members():
  def flops(kind, *index, **settings):
    made = student(kind, **settings)
    # NumPy parameters, as read from a file, and a traced index.
    frozen = made.freeze(moved(made))
    return jax.jit(frozen.outputs).lower(X, *index).cost_analysis()['flops']

  for kind, settings in ('multi_head', {'head_stages': 2}), ('batch_ensemble', {}):
    assert flops(kind, jnp.array([1]), **settings) < 0.4 * flops(kind, **settings)


@pytest.mark.parametrize(
  'kind, name',
  [('single', 'mlp'), ('multi_head', 'resnet'), ('batch_ensemble', 'wide_resnet')],
)
def test_every_parameter_gets_a_gradient(kind, name):
  made = student(kind, name)
  variables = moved(made)
  stats = variables.get('batch_stats', {})

  @jax.jit
  @functools.partial(jax.grad, has_aux=True)
  def gradients(params):
    variables = {'params': params, 'batch_stats': stats}
    y, new = made.module.apply(variables, X, True, mutable=['batch_stats'])
    return (y * jnp.sin(jnp.arange(y.size)).reshape(y.shape)).sum(), (y, new)

  grads, (y, new) = gradients(variables['params'])
  assert y.shape == (4, made.size, K) and y.dtype == jnp.float32
  assert jax.tree.structure(new.get('batch_stats', {})) == jax.tree.structure(stats)
  for path, a in paths(grads).items():
    assert np.isfinite(a).all() and np.abs(a).max() > 0, path


# ---- batch ensemble


@pytest.mark.parametrize('name', ['mlp', 'resnet'])
def test_batch_ensemble_of_ones_is_the_plain_network(name):
  made, plain = student('batch_ensemble', name), student('single', name)
  single = moved(plain)
  variables = jax.tree.map(jnp.zeros_like, moved(made))

  def factor_one_else_single(path, a):
    return (
      jnp.ones_like(a)
      if path[-1].key in layers.FACTORS
      else paths(single)[tuple(k.key for k in path)]
    )

  variables = jax.tree_util.tree_map_with_path(factor_one_else_single, variables)
  for train in False, True:

    def apply(module, v, train=train):
      return jax.jit(lambda v: module.apply(v, X, train, mutable=['batch_stats']))(v)

    (y, new), (expected, expected_new) = apply(made.module, variables), apply(plain.module, single)
    close(y, np.repeat(expected, M, 1), 1e-4)
    close(new, expected_new, 1e-4)


@pytest.mark.parametrize('bias', layers.BIASES)
def test_permuting_members_permutes_outputs(bias):
  made = student('batch_ensemble', bias=bias)
  variables, order = moved(made), np.array([2, 0, 1])

  def in_order(path, a):
    return a[order] if path[-1].key in layers.MEMBER_LEAVES else a

  swapped = jax.tree_util.tree_map_with_path(in_order, variables)
  run = jax.jit(lambda v: made.module.apply(v, X, True, mutable=['batch_stats']))
  (y, new), (y_swapped, new_swapped) = run(variables), run(swapped)
  close(y_swapped, y[:, order], 1e-4)
  close(new_swapped, new, 1e-4)


@pytest.mark.parametrize(
  'name, bias', [*itertools.product(['mlp', 'resnet'], layers.BIASES), ('wide_resnet', 'shared')]
)
def test_average_is_the_plain_network_at_the_mean_factors(name, bias):
  made = student('batch_ensemble', name, bias=bias)
  variables = moved(made)
  views = made.views(variables)
  assert list(views) == ['student', 'student-averaged'] and views['student'] == (made, variables)
  plain, averaged = views['student-averaged']
  assert plain.kind == 'single' and plain.size == 1
  fresh = jax.eval_shape(plain.module.init, jax.random.key(0), X)
  assert jax.tree.map(jnp.shape, averaged) == jax.tree.map(jnp.shape, fresh)

  def mean_of_members(path, a):
    return np.broadcast_to(a.mean(0), a.shape) if path[-1].key in layers.MEMBER_LEAVES else a

  at_mean = jax.tree_util.tree_map_with_path(mean_of_members, variables)
  y = jax.jit(made.module.apply)(at_mean, X)
  close(jax.jit(plain.module.apply)(averaged, X), y[:, :1], 1e-6)
  close(y, np.repeat(y[:, :1], M, 1), 1e-6)


def test_average_with_the_weights_of_one_member_is_that_member():
  for bias in layers.BIASES:
    made = student('batch_ensemble', 'mlp', bias=bias)
    variables = moved(made)
    y = made.module.apply(variables, X)
    for m, weights_M in enumerate(np.eye(M, dtype=np.float32)):
      alone = made.plain.module.apply(students.average(variables, weights_M), X)
      close(alone, y[:, m : m + 1], 1e-6)
    equal = students.average(variables, np.full(M, 1 / M, np.float32))
    close(equal, students.average(variables), 1e-6)


def test_factors_start_around_one():
  made = student('batch_ensemble', 'mlp', members=100, factors='normal', factor_std=0.5)
  params = jax.jit(made.module.init)(jax.random.key(0), X)['params']
  factors = [a for path, a in paths(params).items() if path[-1] in layers.FACTORS]
  values = np.concatenate([a.ravel() for a in factors])
  np.testing.assert_allclose([values.mean(), values.std()], [1, 0.5], atol=0.02)
  assert np.abs(factors[0][0] - factors[0][1]).max() > 0.1


@pytest.mark.parametrize('kind, settings', KINDS)
def test_groups_name_the_factors(kind, settings):
  made = student(kind, **settings)
  groups = {path: made.group(path) for path in paths(moved(made)['params'])}
  factors = {path for path, group in groups.items() if group == 'factors'}
  assert set(groups.values()) <= {'shared', 'factors'}
  assert factors == {path for path in groups if path[-1] in ('r', 's')}
  # Every convolution, shortcuts included, and the dense layer have both factors.
  kernels = [path for path in groups if path[-1] == 'kernel']
  assert len(factors) == (2 * len(kernels) if kind == 'batch_ensemble' else 0)


# ---- multi-head


@pytest.mark.parametrize('name, head_stages', [('mlp', 0), ('resnet', 1), ('wide_resnet', 2)])
def test_a_widened_network_starts_as_copies_of_its_one_head(name, head_stages):
  one = student('multi_head', name, members=1, head_stages=head_stages)
  many = student('multi_head', name, head_stages=head_stages)
  variables = moved(one)
  widened = students.widen(variables, M)
  fresh = jax.eval_shape(many.module.init, jax.random.key(0), X)
  assert jax.tree.map(jnp.shape, widened) == jax.tree.map(jnp.shape, fresh)
  y = jax.jit(one.module.apply)(variables, X)
  close(jax.jit(many.module.apply)(widened, X), np.repeat(y, M, 1), 1e-6)
  bodies = [{p: a for p, a in paths(v).items() if 'heads' not in p} for v in (variables, widened)]
  close(*bodies, 0)


def test_only_one_head_is_widened():
  with pytest.raises(ValueError, match='this one has 3'):
    students.widen(moved(student('multi_head')), 4)


def test_one_head_is_the_plain_network():
  one, plain = student('multi_head', members=1), student('single')
  variables = moved(one)
  flat = {
    collection: {
      **{name: tree for name, tree in trees.items() if name != 'heads'},
      **jax.tree.map(lambda a: a[0], trees['heads']),
    }
    for collection, trees in variables.items()
  }
  close(jax.jit(one.module.apply)(variables, X), jax.jit(plain.module.apply)(flat, X))


def test_heads_start_apart():
  variables = jax.jit(student('multi_head', 'mlp').module.init)(jax.random.key(0), X)
  kernel = variables['params']['heads']['head']['kernel']
  assert np.abs(kernel[0] - kernel[1]).max() > 1e-3


def test_equal_heads_draw_their_own_dropout():
  one, two = (
    students.make('multi_head', backbone('mlp', dropout=0.5), K, members=m) for m in (1, 2)
  )
  variables = students.widen(moved(one), 2)
  y = two.module.apply(variables, X, True, rngs={'dropout': jax.random.key(1)})
  assert np.abs(y[:, 0] - y[:, 1]).max() > 1e-3
  y = two.module.apply(variables, X)
  np.testing.assert_array_equal(y[:, 0], y[:, 1])


def test_parameter_counts():
  def count(kind, **settings):
    net = nets.build('resnet', shape=(32, 32, 3), mean=(0.5,), std=(0.25,), depth=20)
    module = students.make(kind, net, 10, members=4, **settings).module
    variables = jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
    return sum(a.size for a in jax.tree.leaves(variables['params']))

  one = count('single')
  assert one == 272_474
  block = 2 * 9 * 64 * 64 + 2 * 2 * 64
  assert count('multi_head', head_stages=0) == one + 3 * 650 == 274_424
  assert count('multi_head') == one + 3 * (block + 650) == 496_376
  # Factors: the stem, three stages of six convolutions, two shortcuts, the dense layer.
  widths = (3 + 16) + 6 * 32 + (48 + 5 * 64) + (96 + 5 * 128) + (48 + 96) + (64 + 10)
  assert count('batch_ensemble') == one + 4 * widths == 278_606
  assert count('batch_ensemble', bias='member') == one + 4 * widths + 3 * 10


# ---- what holds for all


@pytest.mark.parametrize(
  'kind, name, form',
  [
    ('single', 'resnet', 'plain'),
    ('single', 'resnet', 'cpu'),
    ('multi_head', 'resnet', 'cpu'),
    ('batch_ensemble', 'resnet', 'cpu'),
    ('multi_head', 'vgg', 'plain'),
    ('batch_ensemble', 'vit', 'plain'),
  ],
)
def test_students_export_with_any_batch_size(kind, name, form):
  made = students.make(kind, backbone(name, form=form), K, members=2)
  variables = moved(made)
  shape = jax.export.symbolic_shape('b, 8, 8, 1')
  exported = jax.export.export(jax.jit(made.module.apply))(
    variables, jax.ShapeDtypeStruct(shape, jnp.float32)
  )
  close(exported.call(variables, X), jax.jit(made.module.apply)(variables, X))


@pytest.mark.parametrize(
  'kind, settings, message',
  [
    ('multi_haed', {}, "unknown student 'multi_haed': did you mean 'multi_head'"),
    ('single', {'head_stages': 1}, "unknown setting of single 'head_stages'"),
    ('multi_head', {'head_stage': 1}, "did you mean 'head_stages'"),
    ('multi_head', {'head_stages': 3}, r'0 .* to 2 .* not 3'),
    ('multi_head', {'head_stages': -1}, 'not -1'),
    ('batch_ensemble', {'factors': 'one'}, "unknown factors 'one': did you mean 'ones'"),
    ('batch_ensemble', {'bias': 'own'}, "unknown bias 'own'"),
    ('batch_ensemble', {'members': 0}, 'not 0'),
  ],
)
def test_wrong_settings_say_so(kind, settings, message):
  with pytest.raises(ValueError, match=message):
    student(kind, **settings)
