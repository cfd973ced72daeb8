"""The one loop: resuming, keeping the best, stopping at what is not finite."""

import contextlib
import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from ensdistill import members, nets
from ensdistill.config import build
from ensdistill.logs import trace, writers
from ensdistill.storage import checkpoint, packing
from ensdistill.training import clock, loop
from ensdistill.training import step as train
from ensdistill.training.feed import OnDevice, OnDeviceValidation
from ensdistill.training.logs import Logs
from ensdistill.training.selection import Best

CONFIG = tiny.config(teacher__steps=12)
DATA = tiny.dataset()


FEED = OnDevice(build.arrays(DATA.train, DATA), 16)


@functools.cache
def method():
  return tiny.plan(CONFIG, DATA).teacher


def step(state, seen):
  return train.train_step(state, FEED.draw(seen, state), None, method())


def score(network, seen):
  variables, number = network
  assert number is None
  return {'nll': (variables['params']['head']['bias'] ** 2).sum(), 'acc': seen[0].mean()}


def scoring(score, loop):
  """Return what scores stacked networks, on inputs that are all one."""
  validation = OnDeviceValidation(np.ones(3, np.float32), np.zeros(3, np.int32), 3)
  return validation.scorer(jax.jit(loop.lift(score)), loop.mesh)


def fit(folder, *, size=2, steps=12, writer=None, one_step=step, **settings):
  keys = train.network_keys(jax.random.key(0), range(size))
  score, select = settings.pop('score', None), settings.pop('select', 'last')
  running = tiny.running(size, writer=writer, logs=4, **settings)
  with checkpoint.Checkpointer(folder) as checkpointer:
    return loop.fit(
      'stage',
      one_step,
      train.start(*keys, method(), jnp.zeros((1, 8, 8, 1))),
      FEED,
      steps=steps,
      loop=running,
      checkpointer=checkpointer,
      scoring=scoring(score, running) if score else None,
      select=select,
    )


def test_stored_checkpoints_have_these_names_in_this_order():
  """Checkpoints of earlier versions are resumed: a name may be added as an optional one alone."""
  terms = {'grad_norm': 0, 'loss': 0}
  network = train.TrainState(0, {'w': 0}, {'mean': 0}, {'count': 0}, 0, 0, 0)
  every = loop.Carry(Best(0, 0, network.variables), Logs(terms, 0, terms, 0), 0, network)
  assert [name for name, _ in packing.named_leaves(every)[0]] == [
    'best/score', 'best/step', 'best/variables/batch_stats/mean', 'best/variables/params/w',
    'logs/sums/grad_norm', 'logs/sums/loss', 'logs/bad', 'logs/bad_terms/grad_norm',
    'logs/bad_terms/loss', 'logs/dropped', 'rollbacks',
    'states/step', 'states/params/w', 'states/batch_stats/mean', 'states/opt_state/count',
    'states/key', 'states/order', 'states/number',
  ]  # fmt: skip
  least = loop.Carry(None, Logs(terms, 0, terms), None, network._replace(number=None))
  names = {name for name, _ in packing.named_leaves(least)[0]}
  assert names.isdisjoint({'rollbacks', 'logs/dropped', 'states/number', 'best/score'})
  assert len(names) == 11


class Killed(Exception):
  """Raised by a test to stop a run."""


class StopsAt(writers.Silent):
  """A writer that dies when a line of this step is written."""

  def __init__(self, step):
    self.step = step

  def scalars(self, step, values, *, stage):
    if step >= self.step:
      raise Killed


@pytest.mark.parametrize('at', [3, 9, 12])
def test_killed_and_resumed_is_bit_identical_to_uninterrupted(tmp_path, at):
  settings = dict(checkpoint_seconds=0.0, score=score, select='nll')
  whole, kept = fit(tmp_path / 'whole', **settings)
  with pytest.raises(Killed):
    fit(tmp_path / 'cut', writer=StopsAt(at), **settings)
  resumed, kept_resumed = fit(tmp_path / 'cut', **settings)
  assert tiny.largest_difference(whole, resumed) == 0
  assert tiny.largest_difference(kept, kept_resumed) == 0


def test_the_lines_of_a_resumed_run_are_those_of_an_uninterrupted_one(tmp_path):
  def lines(folder):
    text = (folder / 'metrics.jsonl').read_text().splitlines()
    return [json.loads(line) for line in text]

  with writers.Writer(tmp_path / 'a', quiet=True) as writer:
    fit(tmp_path / 'a' / 'checkpoints', writer=writer, score=score)

  class Dies(writers.Writer):
    def scalars(self, step, values, *, stage):
      super().scalars(step, values, stage=stage)
      if step == 9:
        raise Killed

  with pytest.raises(Killed), Dies(tmp_path / 'b', quiet=True) as writer:
    fit(tmp_path / 'b' / 'checkpoints', writer=writer, score=score, checkpoint_seconds=0.0)
  with writers.Writer(tmp_path / 'b', quiet=True) as writer:
    fit(tmp_path / 'b' / 'checkpoints', writer=writer, score=score)
  assert lines(tmp_path / 'a') == lines(tmp_path / 'b')
  assert {line['step'] for line in lines(tmp_path / 'a')} == {3, 6, 9, 12}


def test_the_loop_moves_nothing_between_host_and_device_unasked(tmp_path):
  """Once the first line is written: one line and one validation after another."""

  class Guards(writers.Silent):
    def scalars(self, step, values, *, stage):
      guard.enter_context(jax.transfer_guard('disallow'))
      lines.append(step)

  lines = []
  with contextlib.ExitStack() as guard:
    fit(tmp_path, writer=Guards(), score=score, select='nll')
  assert len(lines) == 6


class Says(writers.Silent):
  """A writer that keeps what is said."""

  def __init__(self):
    self.said = []

  def line(self, text):
    self.said.append(text)


def test_a_trace_is_written(tmp_path):
  folder, writer = tmp_path / 'profile', Says()
  fit(tmp_path / 'stage', steps=4, writer=writer, profile=3, profile_folder=str(folder))
  assert len(list(folder.rglob('*.xplane.pb'))) == 1
  (text,) = writer.said
  assert 'traced 3 steps from step 1 on' in text and f'--logdir={folder}' in text


@pytest.mark.parametrize(
  'steps, per_call, start, expected',
  [
    (12, 1, 0, [2, 5]),
    (12, 5, 0, [9, 12]),
    (99, 5, 0, [10, 13]),
    (12, 12, 0, [9, 12]),
    (4, 4, 0, [1, 4]),  # hardly longer than the trace
    (2, 2, 0, [0, 2]),  # shorter
    (12, 5, 11, [11, 12]),  # goes on with its last step
  ],
)
def test_a_trace_holds_its_steps_and_no_others(monkeypatch, steps, per_call, start, expected):
  at, seen, said, settled = start, [], [], []

  @contextlib.contextmanager
  def traced(folder):
    seen.extend([folder, at])
    yield
    seen.append(at)

  monkeypatch.setattr(jax.profiler, 'trace', traced)
  one = trace.Trace(3, 'there', start, steps, lambda: settled.append(at), said.append)
  calls = 0
  while at < steps:
    at, calls = at + one.limit(at, min(per_call, steps - at), calls), calls + 1
  one.finish()
  one.abort()
  assert seen == ['there', *expected] and settled == expected and len(said) == 1


def test_a_finished_stage_is_not_run_again(tmp_path):
  first, _ = fit(tmp_path)

  def never(state, arrays):
    state, logs = step(state, arrays)
    return state._replace(step=state.step + 100), logs

  second, kept = fit(tmp_path, one_step=never)
  assert tiny.largest_difference(first, second) == 0
  assert kept['step'].tolist() == [12, 12]


@pytest.mark.parametrize('steps_per_call', [1, 5, 0])
def test_steps_per_call_changes_nothing(tmp_path, steps_per_call):
  a, _ = fit(tmp_path / 'a', steps_per_call=2)
  b, _ = fit(tmp_path / 'b', steps_per_call=steps_per_call)
  assert tiny.largest_difference(a, b) == 0


@pytest.mark.parametrize('select_from,best', [(0, [6, 12]), (7, [9, 12])])
def test_each_network_keeps_its_own_best(tmp_path, select_from, best):
  """The score is best at step 6 for one network and at step 12 for the other."""

  keys = train.network_keys(jax.random.key(0), range(2))
  states = train.start(*keys, method(), jnp.zeros((1, 8, 8, 1)))
  scores = np.array([[0.2, 0.9, 0.3, 0.1], [0.1, 0.2, 0.3, 0.4]])

  def by_number(network, seen):
    del seen
    variables, _ = network
    number = variables['params']['number']
    point = variables['params']['step'] // 3 - 1
    return {'acc': jnp.asarray(scores)[number.astype(int), point.astype(int)]}

  def counting(state, arrays):
    params = {k: v for k, v in state.params.items() if k not in ('number', 'step')}
    after, logs = step(state._replace(params=params), arrays)
    extra = {'number': state.params['number'], 'step': state.params['step'] + 1}
    return after._replace(params={**after.params, **extra}), logs

  states = states._replace(
    params={**states.params, 'number': jnp.arange(2.0), 'step': jnp.zeros(2)}
  )
  running = tiny.running(2, logs=4, scores=4)
  with checkpoint.Checkpointer(tmp_path) as checkpointer:
    variables, kept = loop.fit(
      'stage',
      counting,
      states,
      FEED,
      steps=12,
      loop=running,
      checkpointer=checkpointer,
      scoring=scoring(by_number, running),
      select='acc',
      select_from=select_from,
    )
  assert kept['step'].tolist() == best
  np.testing.assert_allclose(kept['acc'], [0.3 if select_from else 0.9, 0.4])
  assert variables['params']['step'].tolist() == best


def test_a_loss_that_is_not_finite_stops_with_its_step_and_terms(tmp_path):
  def diverges(state, arrays):
    state, logs = step(state, arrays)
    return state, logs | {'loss': jnp.where(state.step == 6, jnp.nan, logs['loss'])}

  with pytest.raises(clock.NonFinite, match=r'stage: .* at step 5: .*loss nan.*optimizer.rate'):
    fit(tmp_path, one_step=diverges, checkpoint_seconds=0.0)
  saved = sorted(int(path.stem) for path in tmp_path.glob('*.json'))
  assert saved and max(saved) <= 5  # a state that is not finite is never saved


def test_one_member_is_trained_like_the_others(tmp_path):
  """Groups, strategies and the number of members change nothing for a member."""
  many, _ = fit(tmp_path / 'many', size=3)
  for strategy in members.STRATEGIES:
    two, _ = fit(tmp_path / strategy, size=2, strategy=strategy)

    def first_two(tree):
      return jax.tree.map(lambda leaf: np.asarray(leaf)[:2], tree)

    assert tiny.largest_difference(first_two(many), two) < 1e-6


def test_initial_variables_have_the_documented_spread():
  module = method().student.module
  keys = jax.random.split(jax.random.key(0), 300)
  drawn = nets.initial.variables(module, keys, jnp.zeros((1, 8, 8, 1)))['params']
  hidden = next(v for k, v in drawn.items() if k != 'head')
  kernel = jax.tree.leaves({k: v for k, v in hidden.items()})
  kernel = next(leaf for leaf in kernel if leaf.ndim == 3)
  np.testing.assert_allclose(kernel.std(), (2 / 64) ** 0.5, rtol=0.01)
  np.testing.assert_allclose(drawn['head']['kernel'].std(), (1 / 8) ** 0.5, rtol=0.03)
  assert not drawn['head']['bias'].any()
