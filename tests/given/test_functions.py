"""Functions as an ensemble: stacked, listed, or one per member give the same members."""

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
  assert found.size == 3 and jax.tree.leaves(found.variables)[0].shape[0] == 3
  theirs = np.stack([np.asarray(module(X)) for module in modules], 1)  # in evaluation mode
  np.testing.assert_allclose(outputs(modules), theirs, rtol=1e-5, atol=1e-6)


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


@pytest.mark.parametrize(
  ('made', 'words'),
  [
    (7, r'make returned a int: return \(apply, variables\), or a list of functions'),
    ([lambda x: x.reshape(len(x), -1)], r'member 0 returned shape \(2, 64\) for 2 inputs'),
    ([lambda x: [x]], 'member 0 returned list'),
    ([fails], r'member 0 failed on inputs \(2, 8, 8, 1\) \(RuntimeError: no weights\)'),
    ([lambda x: jnp.full((len(x), 3), jnp.nan)], 'member 0 returned NaN or infinity'),
    ((apply, [{'w': 1}, {'v': 1}]), 'different structure'),
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
  with pytest.raises(ValueError, match='m has a gradient of zero by x'):
    given.check_gradients(stopped, DATA, ods)
  with pytest.raises(ValueError, match='m cannot be differentiated by x'):
    given.check_gradients(called, DATA, ods)
  given.check_gradients(stopped, DATA, perturb.make('gaussian'))
  given.check_gradients(given.from_functions((apply, variables()), DATA, 'm'), DATA, ods)


def test_a_given_ensemble_replaces_members_and_targets_of_a_recipe():
  config = settings.default()
  settings.apply(config, {'teacher.outputs': 'file.npz'})
  assert (config.teacher.members, config.student.targets) == (0, 'auto')
  config = settings.default()
  settings.apply(config, {'teacher.source': 'a:b', 'teacher.members': 5})
  assert (config.teacher.members, config.student.targets) == (5, 'online')
