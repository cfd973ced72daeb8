"""Losses that are not finite: stop, skip, rollback."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from ensdistill import processes
from ensdistill.logs import writers
from ensdistill.storage import checkpoint, seals
from ensdistill.training import clock, loop
from ensdistill.training import step as train
from ensdistill.training.feed import OnDevice

DATA = np.arange(40, dtype=np.float32).reshape(40, 1)
FEED = OnDevice({'x': DATA}, 4)


class Kept(writers.Silent):
  """A writer that keeps what it is given."""

  def __init__(self):
    self.said, self.scalar = [], {}

  def line(self, text):
    self.said.append(text)

  def scalars(self, step, values, *, stage):
    self.scalar[step] = values


def states(size, shared=False):
  """Networks of one parameter, which a step moves by the sum of its batch."""
  keys, orders = train.network_keys(jax.random.key(0), range(size), shared)
  number = jnp.arange(size, dtype=jnp.int32)
  params = {'w': jnp.zeros(size)}
  return train.TrainState(jnp.zeros(size, jnp.int32), params, {}, {}, keys, orders, number)


def stepping(is_bad):
  """Return a step that adds the batch's sum, and is bad where is_bad(state, batch) is true."""

  def step(state, seen):
    batch = FEED.draw(seen, state)['x'][:, 0]
    bad = is_bad(state, batch)
    moved = state.params['w'] + jnp.where(bad, jnp.nan, batch.sum())
    loss = jnp.where(bad, jnp.nan, 1.0)
    new = state._replace(step=state.step + 1, params={'w': moved})
    return new, {'loss': loss, 'grad_norm': jnp.float32(1)}

  return step


def fit(folder, is_bad, on_nan, *, size=2, steps=40, shared=False, writer=None, **settings):
  """Train; return the parameters, and what was said and logged."""
  writer = writer or Kept()
  settings = {'logs': 4, 'checkpoint_seconds': 0.0} | settings
  running = tiny.running(size, writer=writer, on_nan=on_nan, folder=str(folder), **settings)
  with checkpoint.Checkpointer(folder / 'checkpoints', log=writer.line) as checkpointer:
    variables, _ = loop.fit(
      'stage', stepping(is_bad), states(size, shared), FEED,
      steps=steps, loop=running, checkpointer=checkpointer,
    )  # fmt: skip
  return np.asarray(variables['params']['w']), writer


def sums(network, steps, size=2):
  """Return the sum of the batches of these steps of a network."""
  order = states(size).order[network]
  return sum(float(DATA[FEED.indices(order, step)].sum()) for step in steps)


def of_network(network, *steps):
  """Return the function that is true for a network at these steps."""

  def is_bad(state, batch):
    del batch
    return (state.number == network) & jnp.isin(state.step, jnp.asarray(steps))

  return is_bad


def never(state, batch):
  del batch
  return state.step < 0


def test_a_stop_describes_the_step(tmp_path):
  with pytest.raises(clock.NonFinite, match=r'bad_step\.json has the batch and the terms') as error:
    fit(tmp_path, of_network(1, 13), 'stop')
  assert "on_nan='skip'" in str(error.value)
  found = json.loads((tmp_path / 'bad_step.json').read_text())
  order = states(2).order[1]
  assert found.pop('terms') == {'loss': 'nan', 'grad_norm': 1.0}
  assert found.pop('last_checkpoint') <= 13
  assert found == {
    'stage': 'stage',
    'network': 1,
    'step': 13,
    'last_good_step': 12,
    'batch_indices': FEED.indices(order, 13),
  }


def test_all_processes_wait_for_the_description(tmp_path, monkeypatch):
  """The first one would be ended in the middle of it by the error of another."""
  written = []

  def by_first(function):
    function()
    written.append((tmp_path / 'bad_step.json').exists())

  monkeypatch.setattr(processes, 'by_first', by_first)
  with pytest.raises(clock.NonFinite):
    fit(tmp_path, of_network(1, 13), 'stop')
  assert written == [True]


def test_skipped_updates_are_dropped_and_counted_and_neighbours_are_untouched(tmp_path):
  w, writer = fit(tmp_path, of_network(1, 3, 4, 25), 'skip')
  np.testing.assert_allclose(w[0], sums(0, range(40)))
  np.testing.assert_allclose(w[1], sums(1, set(range(40)) - {3, 4, 25}))
  logged = writer.scalar
  assert {step: values['dropped'] for step, values in logged.items()} == {
    10: 2,
    20: 0,
    30: 1,
    40: 0,
  }
  assert all(values['loss'] == 1 for values in logged.values())  # means over what was kept
  assert any('2 update(s) dropped' in line for line in writer.said)


@pytest.mark.parametrize('per_call', [pytest.param(1, marks=pytest.mark.slow), 2, 40])
def test_more_than_ten_dropped_updates_in_a_row_stop(tmp_path, per_call):
  ten, eleven = range(15, 25), range(15, 26)
  w, _ = fit(tmp_path / 'ten', of_network(0, *ten), 'skip', steps_per_call=per_call)
  np.testing.assert_allclose(w[0], sums(0, set(range(40)) - set(ten)))
  with pytest.raises(clock.NonFinite, match='step 15 and in the 10 steps after it'):
    fit(tmp_path / 'eleven', of_network(0, *eleven), 'skip', steps_per_call=per_call)


def test_a_rollback_trains_its_network_in_another_order(tmp_path):
  """The bad network leaves its batch; its neighbour ends as if nothing had happened."""
  index = FEED.indices(states(2).order[1], 13)
  bad = float(DATA[index].sum())

  def is_bad(state, batch):
    return (state.number == 1) & (state.step == 13) & (batch.sum() == bad)

  w, writer = fit(tmp_path, is_bad, 'rollback')
  np.testing.assert_allclose(w[0], sums(0, range(40)))
  assert np.isfinite(w[1]) and w[1] != sums(1, range(40))
  assert sum('rollback 1 of 3' in line for line in writer.said) == 1
  assert sorted(writer.scalar) == [10, 20, 30, 40]


def test_checkpoints_after_a_rollback_to_the_start_keep_the_choice_of_onednn(tmp_path):
  bad = float(DATA[FEED.indices(states(2).order[1], 13)].sum())

  def is_bad(state, batch):
    return (state.number == 1) & (state.step == 13) & (batch.sum() == bad)

  _, writer = fit(tmp_path, is_bad, 'rollback', checkpoint_seconds=1000.0)
  assert any('to step 0' in line for line in writer.said)
  manifest = seals.unseal((tmp_path / 'checkpoints' / '40.json').read_bytes())
  assert manifest['facts'] == {'onednn': False}


def test_rollbacks_end(tmp_path):
  with pytest.raises(clock.NonFinite):
    fit(tmp_path, of_network(0, 13), 'rollback')
  assert json.loads((tmp_path / 'bad_step.json').read_text())['step'] == 13


class Killed(Exception):
  """Raised by a test to stop a run."""


class StopsAt(Kept):
  """A writer that dies when a line of this step is written after a rollback."""

  def scalars(self, step, values, *, stage):
    super().scalars(step, values, stage=stage)
    if step >= 20 and any('rollback' in line for line in self.said):
      raise Killed


def test_a_run_that_is_killed_after_a_rollback_ends_as_if_it_had_not_been(tmp_path):
  bad = float(DATA[FEED.indices(states(2).order[1], 13)].sum())

  def is_bad(state, batch):
    return (state.number == 1) & (state.step == 13) & (batch.sum() == bad)

  # Without checkpoints by the clock both go back to the start, whatever the time.
  slow = {'checkpoint_seconds': 1000.0}
  whole, _ = fit(tmp_path / 'whole', is_bad, 'rollback', **slow)
  with pytest.raises(Killed):
    fit(tmp_path / 'cut', is_bad, 'rollback', writer=StopsAt(), **slow)
  resumed, writer = fit(tmp_path / 'cut', is_bad, 'rollback', **slow)
  np.testing.assert_array_equal(whole, resumed)
  assert not any('rollback' in line for line in writer.said)  # not a second time


@pytest.mark.parametrize('first, then', [('stop', 'skip'), ('stop', 'rollback'), ('skip', 'stop')])
def test_the_setting_may_change_between_a_stop_and_its_continuation(tmp_path, first, then):
  class Dies(Kept):
    def scalars(self, step, values, *, stage):
      if step == 20:
        raise Killed

  with pytest.raises(Killed):
    fit(tmp_path, never, first, writer=Dies())
  w, _ = fit(tmp_path, of_network(0, 30) if then == 'skip' else never, then)
  np.testing.assert_allclose(w[0], sums(0, set(range(40)) - ({30} if then == 'skip' else set())))


def test_networks_of_one_order_change_it_together(tmp_path):
  bad = float(DATA[FEED.indices(states(2, shared=True).order[0], 13)].sum())

  def is_bad(state, batch):
    return (state.number == 1) & (state.step == 13) & (batch.sum() == bad)

  w, _ = fit(tmp_path, is_bad, 'rollback', shared=True)
  assert np.isfinite(w).all() and w[0] == w[1]
