"""Which examples of a batch are augmented."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from ensdistill import data
from ensdistill.training import feed, step

AUGMENT = {'crop': 2, 'pad': 'reflect', 'flip': True, 'rotate': 15.0}


def joined(size=24, auxiliary=24):
  """A data set whose auxiliary images are above 0.5 and whose own are below."""
  own = tiny.dataset(size)
  x = (own.train.x / 4).astype(np.float32)
  own = tiny.replace(own, train=own.train._replace(x=x))
  more = np.random.default_rng(1).uniform(0.5, 1, (auxiliary, 8, 8, 1)).astype(np.float32)
  return data.join(own, more), more


def drawn(made, steps=3, seed=0):
  """Return the batches of some steps of one network."""
  order = jax.random.key(seed)
  batches = made.start(0, step_mesh())
  state = [types.SimpleNamespace(order=order, step=jnp.int32(at)) for at in range(steps)]
  return [jax.device_get(made.draw(next(batches), each)) for each in state]


def step_mesh():
  return tiny.running().mesh


@pytest.mark.parametrize('streams', [False, True])
def test_auxiliary_images_are_not_augmented(streams):
  dataset, auxiliary = joined()
  config = tiny.config(**{f'augment__{name}': value for name, value in AUGMENT.items()})
  arrays = tiny.plan(config, tiny.dataset(), training=dataset).student_arrays()
  assert arrays[feed.AUGMENTED].tolist() == [True] * 24 + [False] * 24
  orders = jax.random.key(0)[None]
  augment = data.augment.make(**AUGMENT)

  def batches(arrays):
    return drawn(
      feed.training_feed(arrays, orders, streams=streams, steps=3, batch=16, augment=augment)
    )

  everything = {name: values for name, values in arrays.items() if name != feed.AUGMENTED}
  kept = 0
  for batch, augmented in zip(batches(arrays), batches(everything)):
    assert batch.keys() == augmented.keys() == {'x', 'y'}
    np.testing.assert_array_equal(batch['y'], augmented['y'])
    for i, label in enumerate(batch['y']):
      if label >= 0:
        np.testing.assert_array_equal(batch['x'][i], augmented['x'][i])
      else:
        assert (auxiliary == batch['x'][i]).all((1, 2, 3)).sum() == 1
        assert (batch['x'][i] != augmented['x'][i]).any()
        kept += 1
  assert kept == 24  # one epoch


def test_without_augmentation_or_auxiliary_images_nothing_is_added():
  dataset, _ = joined()
  plain, augmented = tiny.config(), tiny.config(augment__flip=True)
  assert set(tiny.plan(plain, tiny.dataset(), training=dataset).student_arrays()) == {'x', 'y'}
  assert set(tiny.plan(augmented, tiny.dataset()).student_arrays()) == {'x', 'y'}


def test_a_step_takes_the_batch():
  dataset, _ = joined()
  config = tiny.config(augment__flip=True, objective__name='prior_network')
  config.objective.label_weight = 1.0
  plan = tiny.plan(config, tiny.dataset(), training=dataset)
  keys, orders = step.network_keys(jax.random.key(0), range(1))
  state = step.start(keys, orders, plan.student, jnp.zeros((1, 8, 8, 1)))
  state = jax.tree.map(lambda leaf: leaf[0], state)
  made = plan.feed(config.student, plan.student_arrays(), orders, 3)
  batch = made.draw(made.arrays, state)
  after, logs = jax.jit(step.train_step, static_argnums=(2, 3))(state, batch, None, plan.student)
  assert int(after.step) == 1 and np.isfinite(logs['loss'])
