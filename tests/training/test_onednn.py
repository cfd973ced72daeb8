"""oneDNN in the steps of a stage: the rule, a resumed stage, losses, the compilation cache."""

import os
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from ensdistill import members, nets, runtime
from ensdistill.config import build
from ensdistill.evaluation import cost
from ensdistill.logs import writers
from ensdistill.storage import checkpoint
from ensdistill.training import loop, onednn
from ensdistill.training import step as train
from ensdistill.training.feed import OnDevice
from ensdistill.training.logs import Logs

LACKS = runtime.lacks_onednn()
needs_onednn = pytest.mark.skipif(LACKS is not None, reason=f'oneDNN: {LACKS}')
DATA = tiny.dataset()
ROOT = pathlib.Path(__file__).parent.parent.parent


def config(**changes):
  """A residual network of eight layers; the student is a batch ensemble with TDiv-SDiv."""
  small = dict(network__name='resnet', network__hidden=None, network__depth=8)
  method = dict(
    student__kind='batch_ensemble', objective__name='members', perturb__name='tdiv_sdiv'
  )
  return tiny.config(teacher__members=2, **(small | method | changes))


def available(monkeypatch, reason=None):
  monkeypatch.setattr(runtime, 'lacks_onednn', lambda: reason)


def test_convolutions_are_counted_in_every_network():
  """A 3 x 3 convolution of C to D channels has 2 * 9 * C * D operations for each output pixel."""
  resnet = tiny.plan(config(), DATA)
  stem, first = 64 * 9 * 1 * 16, 2 * 64 * 9 * 16 * 16
  second = 16 * (9 * 16 * 32 + 9 * 32 * 32 + 16 * 32)
  third = 4 * (9 * 32 * 64 + 9 * 64 * 64 + 32 * 64)
  one = cost.convolutions(resnet.teacher.student.module)
  assert one == 2 * (stem + first + second + third)
  assert cost.convolutions(resnet.student.student.module) == 2 * one  # two members
  assert cost.convolutions(tiny.plan(tiny.config(), DATA).teacher.student.module) == 0


@pytest.mark.parametrize('kept, teachers', [('online', 2), ('stored', 0)])
def test_the_rule_counts_networks_in_training_and_the_teacher(monkeypatch, kept, teachers):
  seen = []
  monkeypatch.setattr(onednn, 'chosen', lambda choice, flops, steps: seen.append((flops, steps)))
  plan = tiny.plan(config(student__targets=kept, perturb__name='none'), DATA)
  one = cost.convolutions(plan.teacher.student.module)
  plan.loop(plan.config.teacher, plan.teacher, 3, writers.Silent())
  plan.loop(plan.config.student, plan.student, 1, writers.Silent())
  assert seen == [(16 * 3 * one, 6), (16 * (2 + teachers) * one, 6)]


def test_long_stages_use_it_and_the_users_choice_comes_first(monkeypatch):
  available(monkeypatch)
  enough = onednn.COMPILATION / onednn.SECONDS_PER_FLOP / 1e9
  assert onednn.chosen(None, 1e9, int(enough) + 1) and onednn.chosen('auto', 2e9, int(enough))
  assert not onednn.chosen('auto', 1e9, int(enough) - 1)
  assert onednn.chosen('on', 0, 1) and not onednn.chosen('off', 1e9, 10**9)
  available(monkeypatch, 'jax 0.10.2 lacks it')
  assert not onednn.chosen('auto', 1e9, 10**9)


def test_on_is_refused_where_it_cannot_be_had(monkeypatch):
  for choice in (None, 'auto', 'off'):
    onednn.check(choice)
  monkeypatch.setattr(runtime.jax, '__version_info__', (0, 10, 2))
  monkeypatch.setattr(runtime.jax, '__version__', '0.10.2')
  with pytest.raises(ValueError, match="onednn='on' .*jax 0.10.2 lacks it.*set onednn='auto'"):
    tiny.checked_plan(config(onednn='on'), DATA)
  monkeypatch.setattr(runtime.jax, '__version_info__', (0, 12, 0))
  monkeypatch.setattr(runtime.platform, 'machine', lambda: 'aarch64')
  with pytest.raises(ValueError, match='this one is aarch64'):
    onednn.check('on')
  with pytest.raises(ValueError, match='did you mean'):
    tiny.checked_plan(config(onednn='of'), DATA)


@pytest.mark.parametrize(
  'wanted, at, stored, lacks, kept, said',
  [
    (True, 0, {}, None, True, None),
    (False, 0, {}, None, False, None),
    (True, 4, {'onednn': True}, None, True, None),
    (False, 4, {'onednn': True}, None, True, 'continues with oneDNN, as it began'),
    (True, 4, {'onednn': False}, None, False, 'continues without oneDNN, as it began'),
    (True, 4, {}, None, False, 'continues without oneDNN, as it began'),  # of an earlier version
    (False, 4, {'onednn': True}, 'no x86', False, '(no x86)'),
  ],
)
def test_a_resumed_stage_goes_on_as_it_began(
  monkeypatch, tmp_path, wanted, at, stored, lacks, kept, said
):
  available(monkeypatch, lacks)
  lines = []
  with checkpoint.Checkpointer(tmp_path) as checkpointer:
    checkpointer.facts = stored
    found = onednn.settled(wanted, at, checkpointer, lines.append)
  assert found == {'onednn': kept}
  assert len(lines) == (said is not None)
  assert all(said in line and str(tmp_path) in line for line in lines), lines


def test_facts_are_saved_with_a_step(tmp_path):
  state = {'a': np.ones(2)}
  with checkpoint.Checkpointer(tmp_path) as checkpointer:
    checkpointer.facts = {'onednn': True}
    checkpointer.save(1, state)
  with checkpoint.Checkpointer(tmp_path) as checkpointer:
    assert checkpointer.facts == {}
    checkpointer.restore(state)
    assert checkpointer.facts == {'onednn': True}


# ---- programs that call it


def stage(teacher: bool):
  """Return the stacked states of a stage, what its step sees, and its step of one network."""
  plan = tiny.plan(config(), DATA)
  method = plan.teacher if teacher else plan.student
  feed = OnDevice(build.arrays(DATA.train, DATA), 16)
  ensemble, _ = tiny.untrained(plan)

  def step(state, seen, variables):
    batch = feed.draw(seen, state)
    return train.train_step(state, batch, None if teacher else ensemble.freeze(variables), method)

  keys = train.network_keys(jax.random.key(0), range(1))
  states = train.start(*keys, method, jnp.zeros((1, *DATA.shape)))
  return states, (feed.arrays, ensemble.variables), step, feed


@needs_onednn
@pytest.mark.parametrize('teacher', [True, pytest.param(False, marks=pytest.mark.slow)])
def test_losses_equal_those_of_the_plain_step(monkeypatch, teacher):
  """Three steps in one program, with oneDNN and without, against plain layers step by step."""
  states, shared, step, _ = stage(teacher)
  shared = jax.device_put(shared)

  def lift(function):
    return members.lift(function, 'loop')

  losses = {}
  for calls in (True, False):
    blank = Logs.blank(lift(step), states, shared)
    advance = loop.program(step, lift, calls_onednn=calls)
    arguments = jax.tree.map(jnp.copy, states), blank, 3, *shared
    lowered = (advance.__wrapped__ if calls else advance).lower(*arguments)
    compiled = runtime.uncached(lowered.compile)()
    assert ('__onednn$' in compiled.as_text()) == calls
    losses[calls] = float(compiled(*arguments)[1].sums['loss'][0])
  monkeypatch.setattr(nets.layers, '_is_cpu', lambda form: False)
  plain, state = jax.jit(lambda *arguments: step(*arguments)), members.take(states, 0)
  total = 0.0
  for _ in range(3):
    state, logs = plain(state, *shared)
    total += float(logs['loss'])
  np.testing.assert_allclose([losses[True], losses[False]], total, rtol=1e-5)


class Killed(Exception):
  """Raised by a test to stop a run."""


class Says(writers.Silent):
  """A writer that keeps its lines, and dies at a step."""

  def __init__(self, dies=None):
    self.dies, self.lines = dies, []

  def line(self, text):
    self.lines.append(text)

  def scalars(self, step, values, *, stage):
    if step == self.dies:
      raise Killed


@pytest.mark.slow
@needs_onednn
def test_killed_and_resumed_with_another_setting_is_bit_identical(tmp_path):
  states, shared, step, feed = stage(teacher=True)

  def fit(folder, calls, writer):
    running = tiny.running(writer=writer, onednn=calls, checkpoint_seconds=0.0, strategy='loop')
    with checkpoint.Checkpointer(tmp_path / folder) as checkpointer:
      return loop.fit(
        'stage',
        step,
        jax.tree.map(jnp.copy, states),
        feed,
        shared[1:],
        steps=6,
        loop=running,
        checkpointer=checkpointer,
      )[0]

  whole = fit('whole', True, Says())
  with pytest.raises(Killed):
    fit('cut', True, Says(dies=4))
  resumes = Says()
  resumed = fit('cut', False, resumes)
  assert any('continues with oneDNN' in line for line in resumes.lines), resumes.lines
  assert tiny.largest_difference(whole, resumed) == 0
  other = fit('other', False, Says())
  assert 0 < tiny.largest_difference(whole, other) < 1e-2  # it does call oneDNN


RUN = """
import sys, warnings
warnings.simplefilter('error', UserWarning)  # JAX warns of programs that cannot be written
from ensdistill import runtime
runtime.prepare(sys.argv[1])
from ensdistill import main
main.main(sys.argv[2:])
"""


@needs_onednn
@pytest.mark.slow
def test_runs_with_and_without_it_share_a_compilation_cache(tmp_path, request):
  """Several at once: equal results; only programs without oneDNN are in the cache."""
  small = [
    '--config.network.depth=8', '--config.teacher.steps=4', '--config.student.steps=4',
    '--config.teacher.members=2', '--config.evaluate.shift=none', '--config.evaluate.ood=none',
    '--config.data.limit=64', '--config.student.keep=last', '--config.teacher.keep=last',
    '--config.teacher.batch_size=16', '--config.student.batch_size=16',
  ]  # fmt: skip
  cache = tmp_path / 'cache'

  def start(choice, number):
    folder = tmp_path / f'{choice}{number}'
    arguments = ['--config=kd_digits', f'--workdir={folder}/run', f'--config.onednn={choice}']
    command = [sys.executable, '-c', RUN, str(cache), *arguments, f'--config.cache={cache}', *small]
    environment = os.environ | {'PYTHONPATH': str(ROOT)}
    kept = dict(stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    process = subprocess.Popen(command, env=environment, **kept)
    request.addfinalizer(process.kill)
    return folder, process

  def weights(started):
    folder, process = started
    text, _ = process.communicate(timeout=300)
    assert process.returncode == 0, text
    assert ('; oneDNN' in text) == folder.name.startswith('on')
    (path,) = folder.glob('run/student/weights.safetensors')
    return path.read_bytes()

  def programs():
    return [path.name for path in cache.rglob('*') if path.name.startswith('jit_advance-')]

  first = weights(start('on', 0))
  assert programs() == [] and list(cache.rglob('jit_*'))
  together = [start('on', 1), start('off', 0), start('off', 1)]
  with_it, without, also_without = map(weights, together)
  assert first == with_it and without == also_without != first
  stored = programs()
  assert weights(start('off', 2)) == without and programs() == stored
  assert len(stored) == 2  # of teacher and student
