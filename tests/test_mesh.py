"""Eight devices give the numbers of one device: global batch, global batch norm, placed members."""

import os
import subprocess
import sys

import pytest
import tensor_files
import tiny

PROGRAM = """
import jax, jax.numpy as jnp, numpy as np, tiny
from ensdistill import members, mesh
from ensdistill.config import build
from ensdistill.storage import checkpoint
from ensdistill.training import loop, step as train
from ensdistill.nets import layers

training = tiny.dataset(size=64)
config = tiny.config(network__name='resnet', network__depth=8, network__hidden=None,
                     augment__crop=1, augment__flip=True)
plan = tiny.plan(config, training)
method = plan.teacher
keys = train.network_keys(jax.random.key(0), range(4))
asked, on_one_device = set(), layers._on_one_device

def ask():
  asked.add(on_one_device())
  return False  # the plain forms compile sooner

layers._on_one_device = ask

def run(devices):
  where = mesh.make(4, 16, devices)
  def step(state, arrays):
    batch = plan.feed(config.teacher, arrays, keys[1], 20).draw(arrays, state)
    return train.train_step(state, mesh.split_batch(where, batch), None, method)
  states = mesh.place(train.start(*keys, method, jnp.zeros((1, 8, 8, 1))), mesh.by_member(where))
  arrays = mesh.place(build.arrays(training.train, training), mesh.replicated(where))
  program = jax.jit(mesh.over_members(members.lift(step, 'vmap'), where))
  asked.clear()
  for _ in range(20):
    states, logs = jax.block_until_ready(program(states, arrays))
  assert asked == {where.shape['data'] == 1}  # CPU forms if each member is on one device
  return where, jax.device_get((states.variables, logs['loss']))

where, eight = run(jax.devices())
assert dict(where.shape) == {'data': 2, 'member': 4}, where
_, two_by_four = run(jax.devices()[:4])
_, one = run(jax.devices()[:1])
difference = tiny.largest_difference(eight, one)
assert difference < 1e-5, difference
assert tiny.largest_difference(two_by_four, one) < 1e-5

# The CPU forms, with one member per device.
layers._on_one_device = on_one_device
random = np.random.default_rng(0)
x, kernels = np.float32(random.normal(size=(17, 8, 8, 2))), random.normal(size=(4, 3, 3, 2, 4))

def gradient(form):
  conv = layers.Conv(4, form=form)
  loss = lambda w, x: (conv.apply({'params': {'kernel': w}}, x) ** 2).mean()
  return members.lift(jax.grad(loss), 'loop')

where = mesh.make(4, 17, jax.devices()[:4])
spread = jax.jit(mesh.over_members(gradient('auto'), where))(np.float32(kernels), x)
together = jax.jit(gradient('plain'))(np.float32(kernels), x)
assert dict(where.shape) == {'data': 1, 'member': 4}
np.testing.assert_allclose(spread, together, rtol=1e-4, atol=1e-5)
print('largest difference', difference)
"""


# A BatchEnsemble on perturbed inputs, trained by the loop.
STUDENT = """
import sys, jax, jax.numpy as jnp, tensor_files, tiny
from ensdistill import members, mesh
from ensdistill.config import build
from ensdistill.logs import writers
from ensdistill.storage import checkpoint, safe
from ensdistill.training import loop, step as train
from ensdistill.training.feed import OnDevice

training = tiny.dataset(size=64)
config = tiny.config(student__kind='batch_ensemble', student__factors='normal', student__steps=20,
                     objective__name='members', objective__label_weight=0.1,
                     perturb__name='tdiv_sdiv', student__microbatches=int(sys.argv[2]))
plan = tiny.plan(config, training)
labels = plan.teacher
stacked = lambda seed, size, method: train.start(
  *train.network_keys(jax.random.key(seed), range(size)), method, jnp.zeros((1, 8, 8, 1)))
teacher = stacked(0, 3, labels).variables
method = plan.student
where = mesh.make(1, 16 // method.microbatches)
feed = OnDevice(build.arrays(training.train, training), 16)

def step(state, arrays, teacher):
  batch = feed.draw(arrays, state)
  frozen = members.frozen(labels.student.module.apply, teacher)
  return train.train_step(state, mesh.split_batch(where, batch), frozen, method)

with checkpoint.Checkpointer(sys.argv[1] + '.checkpoints') as checkpointer:
  variables, _ = loop.fit(
    'student', step, stacked(1, 1, method), feed, (teacher,),
    steps=20, loop=loop.LoopSettings(where, 'vmap', writers.Silent(), steps_per_call=5),
    checkpointer=checkpointer)
tensor_files.save(sys.argv[1], safe.flatten(jax.device_get(variables)))
print(dict(where.shape))
"""


def run(program, devices, *arguments) -> str:
  """Return the output of the program, run in a process with this number of devices."""
  environment = os.environ | {
    'XLA_FLAGS': f'{os.environ["XLA_FLAGS"]} --xla_force_host_platform_device_count={devices}',
    'PYTHONPATH': os.path.dirname(__file__),
  }
  command = [sys.executable, '-c', program, *arguments]
  done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=900)
  assert done.returncode == 0, done.stderr[-2000:]
  return done.stdout


def test_eight_devices_equal_one_after_twenty_steps():
  assert 'largest difference' in run(PROGRAM, 8)


@pytest.mark.slow
@pytest.mark.parametrize('microbatches', [1, 2])
def test_a_student_on_eight_devices_equals_one_of_a_process_with_one(tmp_path, microbatches):
  found = {}
  for devices in (8, 1):
    path = tmp_path / f'{devices}.safetensors'
    assert f"'data': {devices}" in run(STUDENT, devices, str(path), str(microbatches))
    found[devices] = tensor_files.load(path)
  assert found[8].keys() == found[1].keys()
  assert tiny.largest_difference(found[8], found[1]) < 1e-5
