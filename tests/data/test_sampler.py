"""The order of examples: one permutation per epoch, for any size, from (key, step) alone."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, PartitionSpec
from scipy import stats

from ensdistill.data import sampler


def epochs(seeds, size, batch, numbers):
  """Return the examples of whole epochs, in one compiled program: [seed, epoch, example]."""
  steps = sampler.steps_per_epoch(size, batch)

  def draw(key, step):
    return sampler.indices(key, step, size=size, batch=batch)

  step = jnp.arange(numbers * steps)
  drawn = jax.jit(jax.vmap(jax.vmap(draw, (None, 0)), (0, None)))(
    jnp.stack([jax.random.key(seed) for seed in seeds]), step
  )
  return np.asarray(drawn).reshape(len(seeds), numbers, steps * batch)


def test_permutes_every_small_size():
  # The domain is traced here, so one compiled program serves all sizes.
  sizes = np.arange(1, 601, dtype=np.uint32)
  a = np.array([math.isqrt(size - 1) + 1 for size in sizes], np.uint32)
  keys = np.random.RandomState(0).randint(0, 2**32, (600, 8), dtype=np.uint32)

  def walk(keys, a, b, size):
    return sampler._walk(keys, jnp.arange(600, dtype=jnp.uint32) % size, a, b, size)

  permuted = np.asarray(jax.jit(jax.vmap(walk))(keys, a, (sizes + a - 1) // a, sizes))
  for size, row in zip(sizes, permuted):
    assert sorted(row[:size].tolist()) == list(range(size)), size


@pytest.mark.parametrize('size', [1, 2, 4, 5, 9, 10, 600])
def test_permute_chooses_its_domain(size):
  permuted = jax.jit(lambda key: sampler.permute(key, jnp.arange(size), size))(jax.random.key(0))
  assert sorted(permuted.tolist()) == list(range(size))


@pytest.mark.parametrize('size', [45_000, 1_000_003])
def test_permutes_large_sizes(size):
  permute = jax.jit(lambda key: sampler.permute(key, jnp.arange(size), size))
  permuted = np.asarray(permute(jax.random.key(1)))
  assert permuted.dtype == np.int32
  assert (np.bincount(permuted, minlength=size) == 1).all()
  # Positions and images are uncorrelated, and so are neighbours.
  assert abs(np.corrcoef(np.arange(size), permuted)[0, 1]) < 5 / size**0.5
  assert abs(np.corrcoef(permuted[:-1], permuted[1:])[0, 1]) < 5 / size**0.5


@pytest.mark.parametrize('size, batch', [(13, 4), (5, 5)])
def test_an_epoch_has_no_example_twice_and_drops_the_last_incomplete_batch(size, batch):
  for seen in epochs([0], size, batch, 3)[0]:
    assert len(seen) == size // batch * batch
    assert len(set(seen.tolist())) == len(seen)
    assert 0 <= seen.min() and seen.max() < size


def test_every_epoch_and_every_key_has_its_own_order():
  orders = epochs([0, 1], 100, 10, 5).reshape(10, 100)
  assert len(np.unique(orders, axis=0)) == 10
  # Orders are independent: two agree at about one of a hundred places.
  assert (orders[:, None] == orders[None]).sum(-1)[np.triu_indices(10, 1)].max() < 10


def test_a_step_draws_the_same_alone_and_in_a_run():
  run = epochs([3], 50, 8, 3)[0].reshape(-1, 8)
  draw = jax.jit(lambda step: sampler.indices(jax.random.key(3), step, size=50, batch=8))
  for step in (0, 5, 6, 17):  # the last of an epoch, the first of the next
    np.testing.assert_array_equal(run[step], draw(step))


@pytest.mark.parametrize('size', [3, 10])
def test_every_example_is_equally_likely_everywhere(size):
  keys = jax.random.split(jax.random.key(7), 4000)
  orders = np.asarray(
    jax.jit(jax.vmap(lambda key: sampler.permute(key, jnp.arange(size), size)))(keys)
  )
  for position in range(size):
    counts = np.bincount(orders[:, position], minlength=size)
    assert stats.chisquare(counts).pvalue > 1e-4
  # Pairs too: the successor of the first example is uniform over the others.
  first = np.argmax(orders == 0, axis=1)
  followers = orders[np.arange(len(orders)), (first + 1) % size]
  assert stats.chisquare(np.bincount(followers, minlength=size)[1:]).pvalue > 1e-4


def test_all_permutations_of_four_are_equally_likely():
  keys = jax.random.split(jax.random.key(0), 12_000)
  permute = jax.jit(jax.vmap(lambda key: sampler.permute(key, jnp.arange(4), 4)))
  orders = np.asarray(permute(keys))
  _, counts = np.unique(orders, axis=0, return_counts=True)
  assert len(counts) == 24
  assert stats.chisquare(counts).pvalue > 1e-4


def test_the_same_for_each_key_and_in_shard_map():
  keys = jax.random.split(jax.random.key(5), 3)

  def draw(key):
    return sampler.indices(key, 9, size=77, batch=6)

  one_by_one = np.stack([jax.jit(draw)(key) for key in keys])
  np.testing.assert_array_equal(jax.jit(jax.vmap(draw))(keys), one_by_one)
  mesh = jax.make_mesh((1,), ('member',), axis_types=(AxisType.Auto,))
  spec = PartitionSpec('member')
  sharded = jax.shard_map(jax.vmap(draw), mesh=mesh, in_specs=spec, out_specs=spec)
  np.testing.assert_array_equal(jax.jit(sharded)(keys), one_by_one)


def test_a_batch_that_does_not_fit_is_refused():
  with pytest.raises(ValueError, match='a batch of 11 does not fit 10 training examples'):
    sampler.indices(jax.random.key(0), 0, size=10, batch=11)
  with pytest.raises(ValueError, match='a batch of 0'):
    sampler.steps_per_epoch(10, 0)


@pytest.mark.parametrize('size, batch', [(1, 1), (10, 3), (997, 64), (1_000_003, 500)])
def test_the_host_draws_the_same_indices(size, batch):
  keys = jax.random.split(jax.random.key(4), 2)
  steps = sampler.steps_per_epoch(size, batch)
  asked = sorted({0, 1, steps - 1, steps, 3 * steps - 1})
  rounds = sampler.round_keys(keys, 3)
  draw = jax.jit(lambda key, step: sampler.indices(key, step, size=size, batch=batch))
  for step in asked:
    for key, rounds_ER in zip(keys, rounds):
      found = sampler.indices_on_host(rounds_ER, step, size=size, batch=batch)
      assert found.dtype == np.int32
      np.testing.assert_array_equal(found, draw(key, step))
