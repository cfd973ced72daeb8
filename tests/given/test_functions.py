"""Functions as an ensemble: stacked, listed, or one per member give the same members."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from ensdistill import given, perturb
from ensdistill.config import settings

DATA = tiny.dataset()
X = jnp.asarray(DATA.train.x[:5])


def apply(variables, x):
  return jnp.tanh(x.reshape(len(x), -1) @ variables['w']) + variables['b']


def variables(members=3):
  random = np.random.default_rng(0)
  return [
    {'w': random.normal(size=(64, 3)).astype(np.float32), 'b': np.float32(m)}
    for m in range(members)
  ]


def outputs(made, index=None, **settings):
  found = given.from_functions(made, DATA, 'make', **settings)
  return np.asarray(jax.jit(lambda v, x: found.freeze(v).outputs(x, index))(found.variables, X))


def stacked():
  return jax.tree.map(lambda *leaves: np.stack(leaves), *variables())


def expected():
  return np.stack([np.asarray(apply(one, X)) for one in variables()], 1)


@pytest.mark.parametrize('strategy', ['auto', 'vmap', 'unroll', 'loop'])
def test_stacked_and_listed_variables_and_functions_are_one_ensemble(strategy):
  functions = [lambda x, one=one: apply(one, x) for one in variables()]
  for made in ((apply, variables()), (apply, stacked()), functions):
    np.testing.assert_allclose(outputs(made, strategy=strategy), expected(), rtol=1e-5, atol=1e-6)
    for index in ([2], [1, 0]):
      own = outputs(made, jnp.array(index), strategy=strategy)
      np.testing.assert_allclose(own, expected()[:, index], rtol=1e-5, atol=1e-6)


def test_modules_of_nnx_are_members():
  from flax import nnx

  class Network(nnx.Module):
    def __init__(self, rngs):
      self.norm = nnx.BatchNorm(64, rngs=rngs)
      self.dense = nnx.Linear(64, 3, rngs=rngs)

    def __call__(self, x):
      return self.dense(self.norm(x.reshape(len(x), -1)))

  modules = [Network(nnx.Rngs(m)) for m in range(3)]
  found = given.from_functions(modules, DATA, 'make')
  assert not any(module.norm.use_running_average for module in modules)
  for module in modules:
    module.eval()
  assert found.size == 3 and jax.tree.leaves(found.variables)[0].shape[0] == 3
  theirs = np.stack([np.asarray(module(X)) for module in modules], 1)  # in evaluation mode
  np.testing.assert_allclose(outputs(modules), theirs, rtol=1e-5, atol=1e-6)


def test_modules_of_nnx_may_hold_dropout():
  from flax import nnx

  class Network(nnx.Module):
    def __init__(self, rngs):
      self.dropout = nnx.Dropout(0.5, rngs=rngs)
      self.dense = nnx.Linear(64, 3, rngs=rngs)

    def __call__(self, x):
      return self.dense(self.dropout(x.reshape(len(x), -1)))

  modules = [Network(nnx.Rngs(m)) for m in range(3)]
  found = outputs(modules)
  assert not any(module.dropout.deterministic for module in modules)
  theirs = np.stack([np.asarray(m.dense(X.reshape(len(X), -1))) for m in modules], 1)
  np.testing.assert_allclose(found, theirs, rtol=1e-5, atol=1e-6)


class Weights(NamedTuple):
  w: np.ndarray
  b: np.ndarray


def test_stacked_variables_may_be_a_named_tuple():
  def named(variables, x):
    return apply(variables._asdict(), x)

  np.testing.assert_allclose(
    outputs((named, Weights(**stacked()))), expected(), rtol=1e-5, atol=1e-6
  )


def test_the_program_of_stacked_members_is_compiled_once():
  traces = []

  def traced(variables, x):
    traces.append(1)
    return apply(variables, x)

  given.from_functions((traced, variables()), DATA, 'make')
  assert len(traces) == 1


@pytest.mark.parametrize('name', ['cached', 'plain', 'wrapped'])
def test_the_digest_covers_the_named_file(name, tmp_path):
  """A function behind an object has no source of its own."""
  file = tmp_path / 'own.py'
  source = """
import functools
import jax.numpy as jnp

def plain():
  return apply, [{'w': jnp.full((64, 3), m)} for m in (1., 2.)]

def apply(variables, x):
  return x.reshape(len(x), -1) @ variables['w'] * (1 if jnp.size(x) > 0 else 0)

cached = functools.lru_cache(plain)
wrapped = functools.partial(plain)
"""
  config = settings.default()
  settings.apply(config, {'teacher.source': f'{file}:{name}'})
  file.write_text(source)
  one = given.load(config, DATA).content
  assert given.load(config, DATA).content == one
  file.write_text(source.replace('else 0', 'else 1'))
  assert given.load(config, DATA).content != one


def test_the_digest_is_that_of_source_and_variables():
  one = given.from_functions((apply, variables()), DATA, 'make', b'source')
  same = given.from_functions((apply, stacked()), DATA, 'make', b'source')
  assert one.content == same.content
  other = variables()
  other[0]['b'] += 1
  for made, source in (((apply, other), b'source'), ((apply, variables()), b'other')):
    assert given.from_functions(made, DATA, 'make', source).content != one.content


def fails(x):
  raise RuntimeError('no weights\nhere')


class Estimator:
  def predict(self, x):
    return x


class Module:
  __module__ = 'torch.nn.modules'

  def __call__(self, x):
    return x


@pytest.mark.parametrize(
  ('made', 'words'),
  [
    (Module(), 'make holds a Module, which JAX cannot call: .* teachers.from_torch'),
    ([Module(), Module()], 'make holds a Module, which JAX cannot call'),
    ({'train': np.zeros((8, 2, 3))}, 'make returned a dict: return'),
    (7, r'make returned a int: return \(apply, variables\), or a list of functions'),
    ([lambda x: x.reshape(len(x), -1)], r'member 0 returned shape \(8, 64\) for 8 inputs'),
    ([lambda x: [x]], 'member 0 returned list'),
    ([fails], r'member 0 failed on inputs \(8, 8, 8, 1\) \(RuntimeError: no weights here\)'),
    ([lambda x: jnp.full((len(x), 3), jnp.nan)], 'member 0 returned NaN or infinity'),
    ((apply, [{'w': 1}, {'v': 1}]), 'different structure'),
    ((apply, []), 'there are no variables'),
    ([np.zeros((2, 3)), np.zeros((2, 3))], r'list of 2 arrays: stack them to \[N, M, O\]'),
    (Estimator(), 'make holds a Estimator, which JAX cannot call: give its outputs'),
    ((apply, {'w': np.zeros((3, 2)), 'b': np.zeros(2)}), 'one leading member axis'),
    ((apply, [{'w': np.zeros((64, 3))}, {'w': np.zeros((64, 4))}]), r'shape \(64, 4\) where'),
  ],
)
def test_wrong_functions_are_named(made, words):
  with pytest.raises(ValueError, match=words):
    given.from_functions(made, DATA, 'make')


def test_a_perturbation_by_gradient_needs_a_gradient():
  stopped = given.from_functions(
    [lambda x: jax.lax.stop_gradient(apply(variables()[0], x))], DATA, 'm'
  )

  def host(x):
    shape = jax.ShapeDtypeStruct((len(x), 3), jnp.float32)
    return jax.pure_callback(lambda x: np.zeros((len(x), 3), np.float32), shape, x)

  called = given.from_functions([host], DATA, 'm')
  ods = perturb.make('ods')
  with pytest.raises(ValueError, match='m: member 0 has a gradient of zero by x'):
    given.check_gradients(stopped, DATA, ods)
  with pytest.raises(ValueError, match='m cannot be differentiated by x'):
    given.check_gradients(called, DATA, ods)
  for broken, words in (
    (lambda x: jax.lax.stop_gradient(apply(variables()[0], x)), 'member 1 has a gradient of zero'),
    (lambda x: jnp.sqrt(0 * x.reshape(len(x), -1)[:, :3]), 'member 1 has a gradient of NaN'),
  ):
    mixed = [lambda x: apply(variables()[0], x), broken]
    with pytest.raises(ValueError, match=words):
      given.check_gradients(given.from_functions(mixed, DATA, 'm'), DATA, ods)
  given.check_gradients(stopped, DATA, perturb.make('gaussian'))
  given.check_gradients(given.from_functions((apply, variables()), DATA, 'm'), DATA, ods)


def test_a_given_ensemble_replaces_members_and_targets_of_a_recipe():
  config = settings.default()
  settings.apply(config, {'teacher.outputs': 'file.npz'})
  assert (config.teacher.members, config.student.targets) == (0, 'auto')
  config = settings.default()
  settings.apply(config, {'teacher.source': 'a:b', 'teacher.members': 5})
  assert (config.teacher.members, config.student.targets) == (5, 'online')


def test_weights_may_be_bfloat16():
  half = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.bfloat16), variables())
  found = given.from_functions((apply, half), DATA, 'make', b'source')
  other = jax.tree.map(lambda leaf: leaf * 2, half)
  assert given.from_functions((apply, other), DATA, 'make', b'source').content != found.content
