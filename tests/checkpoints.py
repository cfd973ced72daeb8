"""States to save, and comparisons of them, for tests of checkpoints."""

import pathlib
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ensdistill.storage import packing


class State(NamedTuple):
  step: Any
  params: Any
  batch_stats: Any
  opt_state: Any
  key: Any


def make_state(step=0):
  params = {'stem': {'kernel': jnp.full((3, 3, 2), 0.5 + step), 'bias': jnp.arange(2.0) - step}}
  optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(0.1, momentum=0.9))
  state = State(jnp.int32(step), params, {}, optimizer.init(params), jax.random.key(step))
  return {'state': state, 'none': None, 'odd': (np.arange(3, dtype=np.int16), 1.5 + step)}


def numbers(tree):
  def without_key_type(leaf):
    return jax.random.key_data(leaf) if packing.is_key(leaf) else leaf

  return [np.asarray(without_key_type(leaf)) for leaf in jax.tree.leaves(tree)]


def assert_same(a, b):
  assert jax.tree.structure(a) == jax.tree.structure(b)
  for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b)):
    assert isinstance(x, jax.Array) == isinstance(y, jax.Array)
    assert getattr(x, 'dtype', type(x)) == getattr(y, 'dtype', type(y))
  for x, y in zip(numbers(a), numbers(b)):
    np.testing.assert_array_equal(x, y, strict=True)


def steps(folder):
  """Return the names of all entries of a folder of checkpoints."""
  return sorted(entry.name for entry in pathlib.Path(folder).iterdir())
