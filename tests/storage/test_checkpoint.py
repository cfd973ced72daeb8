"""Checkpoints: states are restored as they were saved; the last steps are kept."""

import contextlib
import hashlib
import json
import os
import socket
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from absl import logging
from checkpoints import State, assert_same, make_state, steps
from jax.sharding import AxisType, NamedSharding, PartitionSpec, SingleDeviceSharding

from ensdistill.storage import checkpoint, packing, seals

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

    def loss(params):
      return ((jnp.sin(params['w']) - noise) ** 2).sum()

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


@pytest.mark.parametrize('keep', [1, 2])
def test_the_last_steps_are_kept(tmp_path, keep):
  with checkpoint.Checkpointer(tmp_path, keep=keep) as checkpointer:
    for step in 5, 10, 100, 9000:
      checkpointer.save(step, {'a': jnp.float32(step)})
  kept = {1: ['9000', '9000.json'], 2: ['100', '100.json', '9000', '9000.json']}[keep]
  assert steps(tmp_path) == kept


def test_keeping_nothing_is_refused(tmp_path):
  with pytest.raises(ValueError, match='keep=0 must be at least 1'):
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
      r"kernel' is float32\[3, 3, 2\] in the checkpoint, but float32\[3, 3, 4\] in this run",
    ),
    (
      lambda stem: stem.update(bias=jnp.zeros(2, jnp.int32)),
      r'float32\[2\] in the checkpoint, but int32',
    ),
    (
      lambda stem: stem.update(extra=jnp.zeros(2)),
      r"params/stem/extra' is absent in the checkpoint",
    ),
    (
      lambda stem: stem.pop('bias'),
      r"params/stem/bias' is float32\[2\] in the checkpoint, but absent in this run",
    ),
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
    with pytest.raises(
      ValueError, match=r"'key' is key<fry>\[\] in the checkpoint, but key<rbg>\[\] in this run"
    ):
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
from ensdistill import processes
from ensdistill.processes import ending, joining
from ensdistill.storage import checkpoint
port, process, folder = sys.argv[1:]
if port != '0':
  joining.join(joining.Place(f'localhost:{port}', 2, int(process)))
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
  processes.each(None, 'unlinked')
  step, back = checkpointer.restore(like)
  assert step == 2 and digest(like)(back, make(2))
  assert len(warnings) == (jax.process_index() == 0), warnings
ending.finish()
print('fine')
"""


def run_several(folder, processes):
  """Run the script above in several processes, on four CPU devices in total."""
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


@pytest.mark.parametrize('processes', [1, pytest.param(2, marks=pytest.mark.slow)])
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
  manifest = seals.unseal((saved.folder / '2.json').read_bytes())
  assert manifest['step'] == 2 and manifest['folder'] == '2'
  names = [entry['name'] for entry in manifest['layout']]
  assert 'state/params/stem/kernel' in names and 'state/key' in names and 'odd/1' in names


def test_states_of_other_settings_are_not_restored(tmp_path, warnings):
  made_by = {'commit': 'abc'}
  with checkpoint.Checkpointer(tmp_path, settings='a', made_by=made_by) as checkpointer:
    checkpointer.save(1, {'a': jnp.ones(2)})
  assert seals.unseal((tmp_path / '1.json').read_bytes())['made_by'] == made_by
  with checkpoint.Checkpointer(tmp_path, settings='b', log=warnings.append) as checkpointer:
    assert checkpointer.restore({'a': jnp.ones(2)}) is None
    assert 'is of other settings' in warnings[0] and len(warnings) == 1
    checkpointer.save(1, {'a': jnp.zeros(2)})
    assert checkpointer.restore({'a': jnp.ones(2)})[1]['a'].sum() == 0


def test_manifests_of_version_0_1_are_read(saved):
  path = saved.folder / '2.json'
  content = seals.unseal(path.read_bytes())
  digest = hashlib.sha256(json.dumps(content).encode()).hexdigest()
  path.write_text(json.dumps({'sha256': digest, 'manifest': content}))
  assert saved.restore(make_state())[0] == 2
  path.write_text(path.read_text().replace('"step": 2', '"step": 3'))
  assert saved.restore(make_state())[0] == 1
