"""Checkpoints: what was saved comes back, or an older step, or an error; never a wrong number."""

import contextlib
import json
import os
import pathlib
import random
import re
import shutil
import socket
import subprocess
import sys
import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from absl import logging
from jax.sharding import AxisType, NamedSharding, PartitionSpec, SingleDeviceSharding

from ensdistill.storage import checkpoint, packing


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
  plain = lambda leaf: jax.random.key_data(leaf) if packing.is_key(leaf) else leaf
  return [np.asarray(plain(leaf)) for leaf in jax.tree.leaves(tree)]


def assert_same(a, b):
  assert jax.tree.structure(a) == jax.tree.structure(b)
  for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b)):
    assert isinstance(x, jax.Array) == isinstance(y, jax.Array)
    assert getattr(x, 'dtype', type(x)) == getattr(y, 'dtype', type(y))
  for x, y in zip(numbers(a), numbers(b)):
    np.testing.assert_array_equal(x, y, strict=True)


@pytest.fixture
def warnings():
  return []


@pytest.fixture
def saved(tmp_path, warnings):
  """A checkpointer with steps 1 and 2."""
  with checkpoint.Checkpointer(tmp_path / 'c', log=warnings.append) as checkpointer:
    checkpointer.save(1, make_state(1))
    checkpointer.save(2, make_state(2))
    yield checkpointer


# ---- round trips


def test_every_kind_of_leaf_comes_back(tmp_path):
  state = {
    'state': make_state(3),
    'large': jnp.arange(2.0 * packing.PACKED_BYTES // 4).reshape(2, -1),
    'empty': jnp.zeros((0, 3)),
    'nothing': {},
    'bfloat16': jnp.array([1.5, -2], jnp.bfloat16),
    'flags': jnp.array([[True], [False]]),
    'keys': jax.random.split(jax.random.key(1), 3),
    'rbg': jax.random.key(2, impl='rbg'),
    'old_key': jax.random.PRNGKey(3),
    'number': 7,
    'flag': True,
    'nan': jnp.array([jnp.nan, -0.0, jnp.inf]),
    'numpy': np.float64(0.1),
  }
  with checkpoint.Checkpointer(tmp_path) as checkpointer:
    checkpointer.save(np.int64(5), state)
  with checkpoint.Checkpointer(tmp_path) as checkpointer:
    step, back = checkpointer.restore(jax.tree.map(lambda leaf: leaf, state))
  assert step == 5
  assert_same(back, state)
  drawn = [jax.random.normal(tree['rbg'], 4) for tree in (state, back)]
  np.testing.assert_array_equal(*drawn)


def test_a_state_without_arrays(tmp_path):
  with checkpoint.Checkpointer(tmp_path) as checkpointer:
    checkpointer.save(1, {'a': {}, 'b': jnp.zeros((2, 0))})
    assert_same(checkpointer.restore({'a': {}, 'b': jnp.ones((2, 0))})[1]['b'], jnp.zeros((2, 0)))


def test_nothing_there_is_none(tmp_path, warnings):
  with checkpoint.Checkpointer(tmp_path / 'absent', log=warnings.append) as checkpointer:
    assert checkpointer.restore(make_state()) is None
  assert not (tmp_path / 'absent').exists() and not warnings


def test_training_goes_on_bit_for_bit(tmp_path):
  optimizer = optax.adamw(1e-2)

  @jax.jit
  def step(state):
    noise = jax.random.normal(jax.random.fold_in(state.key, state.step), (5,))
    loss = lambda params: ((jnp.sin(params['w']) - noise) ** 2).sum()
    updates, opt_state = optimizer.update(
      jax.grad(loss)(state.params), state.opt_state, state.params
    )
    params = optax.apply_updates(state.params, updates)
    return state._replace(step=state.step + 1, params=params, opt_state=opt_state)

  params = {'w': jnp.arange(5.0)}
  fresh = State(jnp.int32(0), params, {}, optimizer.init(params), jax.random.key(0))
  straight = fresh
  for _ in range(8):
    straight = step(straight)
  state = fresh
  for _ in range(3):
    state = step(state)
  with checkpoint.Checkpointer(tmp_path) as checkpointer:
    checkpointer.save(3, state)
    at, state = checkpointer.restore(fresh)
  for _ in range(at, 8):
    state = step(state)
  assert_same(state, straight)


def test_saving_and_restoring_move_arrays_explicitly(tmp_path):
  state, like = make_state(1), make_state(0)
  with jax.transfer_guard('disallow'), checkpoint.Checkpointer(tmp_path) as checkpointer:
    checkpointer.save(1, state)
    _, back = checkpointer.restore(like)
  assert_same(back, state)


def test_a_donated_state_does_not_change_what_was_saved(tmp_path):
  state = {'w': jnp.zeros(1000), 'large': jnp.zeros(packing.PACKED_BYTES)}
  with checkpoint.Checkpointer(tmp_path) as checkpointer:
    checkpointer.save(1, state)
    jax.block_until_ready(
      jax.jit(lambda s: jax.tree.map(lambda a: a + 1, s), donate_argnums=0)(state)
    )
    _, back = checkpointer.restore(
      jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), state)
    )
  assert all((leaf == 0).all() for leaf in jax.tree.leaves(back))


# ---- which steps are there


def steps(folder):
  return sorted(entry.name for entry in pathlib.Path(folder).iterdir())


@pytest.mark.parametrize('keep', [1, 2])
def test_the_last_steps_are_kept(tmp_path, keep):
  with checkpoint.Checkpointer(tmp_path, keep=keep) as checkpointer:
    for step in 5, 10, 100, 9000:
      checkpointer.save(step, {'a': jnp.float32(step)})
  kept = {1: ['9000', '9000.json'], 2: ['100', '100.json', '9000', '9000.json']}[keep]
  assert steps(tmp_path) == kept


def test_keeping_nothing_is_refused(tmp_path):
  with pytest.raises(ValueError, match='keep=0'):
    checkpoint.Checkpointer(tmp_path, keep=0)


def test_a_step_can_be_saved_again(saved):
  saved.save(2, make_state(20))
  assert_same(saved.restore(make_state())[1], make_state(20))
  saved.save(2, make_state(21))
  assert_same(saved.restore(make_state())[1], make_state(21))
  assert len(steps(saved.folder)) == 4


def test_an_earlier_step_replaces_the_later_ones(saved):
  saved.save(1, make_state(10))
  step, state = saved.restore(make_state())
  assert step == 1 and steps(saved.folder) == ['1.1', '1.json']
  assert_same(state, make_state(10))


def test_other_files_stay(saved):
  (saved.folder / 'notes.txt').touch()
  saved.save(3, make_state(3))
  assert 'notes.txt' in steps(saved.folder)


def test_remove_drops_the_folder(saved):
  saved.remove()
  assert not saved.folder.exists()
  assert saved.restore(make_state()) is None


def test_remove_of_a_folder_of_stages(saved, tmp_path):
  checkpoint.remove(tmp_path)
  assert not tmp_path.exists()
  checkpoint.remove(tmp_path)


# ---- damage


def flip(path, rng):
  content = bytearray(path.read_bytes())
  content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
  path.write_bytes(content)


def test_a_flipped_bit_in_any_file_leads_to_the_step_before(saved, warnings):
  rng, keep = random.Random(0), saved.folder.with_name('keep')
  shutil.copytree(saved.folder, keep)
  files = [path.relative_to(keep) for path in (keep / '2').rglob('*') if path.is_file()]
  files = [name for name in files if (keep / name).stat().st_size]
  assert len(files) > 5
  for name in [*files, *[pathlib.Path('2.json')] * 10]:
    flip(saved.folder / name, rng)
    step, state = saved.restore(make_state())
    assert step == 1, f'{name} was damaged unnoticed'
    assert_same(state, make_state(1))
    warning = warnings.pop()
    assert f'checkpoint {saved.folder}/2 is damaged' in warning and not warnings
    shutil.copy(keep / name, saved.folder / name)
  assert saved.restore(make_state())[0] == 2 and not warnings


DAMAGES = {
  'truncated': lambda c: os.truncate(largest(c / '2'), 10),
  'a file is missing': lambda c: os.remove(largest(c / '2')),
  '2 is missing|2/.* is missing': lambda c: shutil.rmtree(c / '2'),
  '2.json is missing': lambda c: os.remove(c / '2.json'),
  'manifest': lambda c: (c / '2.json').write_text('{"step": 2}'),
  'Expecting value': lambda c: (c / '2.json').write_text(''),
  'codec|decode': lambda c: (c / '2.json').write_bytes(b'\xff\xfe\xfd'),
}


def largest(folder):
  return max((p for p in folder.rglob('*') if p.is_file()), key=lambda p: p.stat().st_size)


@pytest.mark.parametrize('reason', DAMAGES)
def test_damage_is_named_and_the_step_before_is_used(saved, warnings, reason):
  DAMAGES[reason](saved.folder)
  step, state = saved.restore(make_state())
  assert step == 1
  assert_same(state, make_state(1))
  (warning,) = warnings
  assert f'{saved.folder}/2 is damaged' in warning and '\n' not in warning
  pattern = {'truncated': 'has changed', 'a file is missing': 'is missing'}.get(reason, reason)
  assert re.search(pattern, warning)


def test_all_damaged_is_none(saved, warnings):
  for step in 1, 2:
    shutil.rmtree(saved.folder / str(step))
  assert saved.restore(make_state()) is None
  assert len(warnings) == 2


def test_a_damaged_step_does_not_count_among_the_kept(saved):
  flip(largest(saved.folder / '2'), random.Random(1))
  assert saved.restore(make_state())[0] == 1
  saved.save(3, make_state(3))
  assert steps(saved.folder) == ['1', '1.json', '3', '3.json']


def test_a_damaged_step_can_be_saved_again(saved):
  os.remove(saved.folder / '2.json')
  assert saved.restore(make_state())[0] == 1
  saved.save(2, make_state(20))
  step, state = saved.restore(make_state())
  assert step == 2 and steps(saved.folder) == ['1', '1.json', '2.1', '2.json']
  assert_same(state, make_state(20))


def test_by_default_a_warning_goes_to_the_error_stream(saved, capfd):
  os.remove(saved.folder / '2.json')
  with checkpoint.Checkpointer(saved.folder) as checkpointer:
    assert checkpointer.restore(make_state())[0] == 1
  out, err = capfd.readouterr()
  assert out == '' and err.count('\n') == 1 and '2.json is missing' in err


# ---- what does not fit


def differ(change):
  state = make_state()
  inner = state['state']
  params = jax.tree.map(lambda leaf: leaf, inner.params)
  change(params['stem'])
  return state | {'state': inner._replace(params=params)}


@pytest.mark.parametrize(
  'change, message',
  [
    (
      lambda stem: stem.update(kernel=jnp.zeros((3, 3, 4))),
      r"kernel' is float32\[3, 3, 2\] there and float32\[3, 3, 4\] here",
    ),
    (lambda stem: stem.update(bias=jnp.zeros(2, jnp.int32)), r'float32\[2\] there and int32'),
    (lambda stem: stem.update(extra=jnp.zeros(2)), r"params/stem/extra' is absent there"),
    (lambda stem: stem.pop('bias'), r"params/stem/bias' is float32\[2\] there and absent here"),
    (
      lambda stem: stem.update({f'x{i}': jnp.zeros(2) for i in range(9)}),
      r'and 6 more',
    ),
  ],
)
def test_another_structure_is_refused_with_the_difference(saved, change, message):
  with pytest.raises(ValueError, match=message) as error:
    saved.restore(differ(change))
  assert '\n' not in str(error.value) and str(saved.folder / '2') in str(error.value)


def test_another_kind_of_key_is_refused(tmp_path):
  with checkpoint.Checkpointer(tmp_path) as checkpointer:
    checkpointer.save(1, {'key': jax.random.key(0)})
    with pytest.raises(ValueError, match=r"'key' is key<fry>\[\] there and key<rbg>\[\] here"):
      checkpointer.restore({'key': jax.random.key(0, impl='rbg')})


# ---- placement


def test_arrays_take_the_placement_that_is_asked_for(saved):
  mesh = jax.make_mesh((1,), ('data',), axis_types=(AxisType.Auto,))
  replicated = NamedSharding(mesh, PartitionSpec())
  like = jax.eval_shape(lambda: make_state()['state'])
  like = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=replicated), like)
  _, placed = saved.restore(make_state() | {'state': like})
  assert all(leaf.sharding == replicated for leaf in jax.tree.leaves(placed['state']))
  assert_same(placed, make_state(2))
  _, free = saved.restore(make_state())
  for leaf in jax.tree.leaves(free['state']):
    assert isinstance(leaf.sharding, SingleDeviceSharding) and not leaf.committed


SEVERAL = """
import sys
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P
from ensdistill.storage import checkpoint
port, process, folder = sys.argv[1:]
if port != '0':
  jax.distributed.initialize(f'localhost:{port}', 2, int(process))
assert jax.device_count() == 4
mesh = jax.make_mesh((2, 2), ('data', 'member'), axis_types=(AxisType.Auto,) * 2)
def place(tree, spec):
  sharding = NamedSharding(mesh, spec)
  return jax.jit(lambda: tree, out_shardings=sharding)()
def make(scale):
  return {
    'members': place(jnp.arange(8.).reshape(4, 2) * scale, P('member')),
    'large': place(jnp.arange(600_000.).reshape(4, -1) * scale, P(('data', 'member'))),
    'keys': place(jax.random.split(jax.random.key(scale), 4), P('member')),
    'params': place(jnp.arange(3.) * scale, P()),
    'key': place(jax.random.key(scale), P()),
    'step': place(jnp.int32(scale), P()),
  }
def digest(tree):
  plain = lambda a: jax.random.key_data(a) if 'key' in str(a.dtype) else a
  same = lambda a, b: (plain(a) == plain(b)).all()
  return jax.jit(lambda a, b: jnp.stack(jax.tree.leaves(jax.tree.map(same, a, b))).all())
warnings = []
with checkpoint.Checkpointer(folder, log=warnings.append) as checkpointer:
  like = make(1)
  assert checkpointer.restore(like) is None
  for step in 1, 2, 3, 3:
    checkpointer.save(step, make(step))
  step, back = checkpointer.restore(like)
  assert step == 3
  for a, b in zip(jax.tree.leaves(back), jax.tree.leaves(like)):
    assert a.sharding.is_equivalent_to(b.sharding, a.ndim), (a.sharding, b.sharding)
  assert digest(like)(back, make(3)) and not digest(like)(back, make(2))
  if jax.process_index() == 0:
    (checkpointer.folder / '3.json').unlink()
  checkpoint.synchronise()
  step, back = checkpointer.restore(like)
  assert step == 2 and digest(like)(back, make(2))
  assert len(warnings) == (jax.process_index() == 0), warnings
print('fine')
"""


def run_several(folder, processes):
  """The script above on four CPU devices in all."""
  with socket.socket() as free:
    free.bind(('localhost', 0))
    port = str(free.getsockname()[1]) if processes > 1 else '0'
  flags = f'--xla_force_host_platform_device_count={4 // processes}'
  with contextlib.ExitStack() as stack:
    running = [
      subprocess.Popen(
        [sys.executable, '-c', SEVERAL, port, str(i), str(folder)],
        env=os.environ | {'XLA_FLAGS': flags, 'JAX_PLATFORMS': 'cpu'},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
      )
      for i in range(processes)
    ]
    for process in running:
      stack.callback(process.wait)
      stack.callback(process.kill)
    for process in running:
      out, err = process.communicate(timeout=300)
      assert process.returncode == 0 and out.endswith('fine\n'), err[-3000:]


@pytest.mark.parametrize('processes', [1, 2])
def test_arrays_over_several_devices_and_processes(tmp_path, processes):
  run_several(tmp_path, processes)
  with checkpoint.Checkpointer(tmp_path) as checkpointer:  # and back on one device
    like = {
      'members': jnp.zeros((4, 2)),
      'large': jnp.zeros((4, 150_000)),
      'keys': jax.random.split(jax.random.key(0), 4),
      'params': jnp.zeros(3),
      'key': jax.random.key(0),
      'step': jnp.int32(0),
    }
    step, back = checkpointer.restore(like)
  assert step == 2
  np.testing.assert_array_equal(back['members'], np.arange(8.0).reshape(4, 2) * 2)
  np.testing.assert_array_equal(back['large'].ravel(), np.arange(600_000.0) * 2)
  assert_same(back['keys'], jax.random.split(jax.random.key(2), 4))


# ---- kills


@pytest.mark.parametrize('moment', ['_sweep', 'write_atomic', 'digests'])
def test_a_save_that_is_cut_off_leaves_a_readable_step(saved, warnings, monkeypatch, moment):
  def die(*_):
    raise KeyboardInterrupt

  owner = {'_sweep': checkpoint.Checkpointer, 'write_atomic': checkpoint.safe}
  with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
    patch.setattr(owner.get(moment, checkpoint), moment, die)
    saved.save(3, make_state(3))
  step, state = saved.restore(make_state())
  assert step == (3 if moment == '_sweep' else 2)
  assert_same(state, make_state(step))
  saved.save(4, make_state(4))
  assert steps(saved.folder) == [str(step), f'{step}.json', '4', '4.json']


SAVE_FOR_EVER = """
import sys, itertools
import jax.numpy as jnp
from ensdistill.storage import checkpoint
make = lambda step: {'a': [jnp.full(50, step)] * 20, 'b': jnp.full(600_000, step), 'step': step}
with checkpoint.Checkpointer(sys.argv[1]) as checkpointer:
  start, state = checkpointer.restore(make(0)) or (0, None)
  for step in itertools.count(start + 1):
    checkpointer.save(step, make(step))
    print(step, flush=True)
"""


def test_killed_at_any_moment_a_whole_step_is_there(tmp_path, warnings):
  rng, done = random.Random(time.time_ns()), 0
  like = {'a': [jnp.zeros(50, jnp.int32)] * 20, 'b': jnp.zeros(600_000, jnp.int32), 'step': 0}
  for _ in range(2):
    command = [sys.executable, '-c', SAVE_FOR_EVER, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
      first = int(process.stdout.readline())
      assert first >= done + 1  # it went on from where the one before was killed
      time.sleep(rng.uniform(0, 0.5))
      process.kill()
      done = max([first, *map(int, process.stdout.read().split())])
    with checkpoint.Checkpointer(tmp_path, log=warnings.append) as checkpointer:
      step, state = checkpointer.restore(like)
    assert step in (done, done + 1)
    assert all((leaf == step).all() for leaf in map(np.asarray, jax.tree.leaves(state)))
    assert len(warnings) <= 1  # a kill between Orbax and the manifest
    warnings.clear()


# ---- silence


def test_orbax_is_quiet(tmp_path, capfd, caplog):
  before = logging.get_verbosity()
  logging.set_verbosity(logging.INFO)  # as absl's app.run does
  try:
    with checkpoint.Checkpointer(tmp_path) as checkpointer:
      checkpointer.save(1, make_state(1))
      checkpointer.restore(make_state())
    assert logging.get_verbosity() == logging.INFO
  finally:
    logging.set_verbosity(before)
  assert capfd.readouterr() == ('', '') and not caplog.records


def test_the_manifest_names_every_leaf(saved):
  manifest = json.loads((saved.folder / '2.json').read_text())['manifest']
  assert manifest['step'] == 2 and manifest['folder'] == '2'
  names = [entry['name'] for entry in manifest['layout']]
  assert 'state/params/stem/kernel' in names and 'state/key' in names and 'odd/1' in names
