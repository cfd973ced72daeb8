"""Eight devices give one device's numbers: a global batch and batch norm, members in place."""

import os
import subprocess
import sys

PROGRAM = """
import jax, jax.numpy as jnp, numpy as np, tiny
from ensdistill import build, checkpoint, distil, loop, members, mesh, train

training = tiny.dataset(size=64)
config = tiny.config(network__name='resnet', network__depth=8, network__hidden=None,
                     augment__crop=1, augment__flip=True)
method = build.teacher_method(config, training)
keys = train.keys(jax.random.key(0), range(4))

def run(devices):
  where = mesh.make(4, 16, devices)
  def step(state, arrays):
    augment = build.augmentation(config)
    batch = train.draw(arrays, state.order, state.step, batch=16, augment=augment)
    return train.train_step(state, mesh.split_batch(where, batch), None, method)
  states = mesh.place(train.start(*keys, method, jnp.zeros((1, 8, 8, 1))), mesh.by_member(where))
  arrays = mesh.place(build.arrays(training.train, training), mesh.replicated(where))
  program = jax.jit(mesh.over_members(members.lift(step, 'vmap'), where))
  for _ in range(20):
    states, logs = jax.block_until_ready(program(states, arrays))
  return where, jax.device_get((states.variables, logs['loss']))

where, eight = run(jax.devices())
assert dict(where.shape) == {'data': 2, 'member': 4}, where
_, two_by_four = run(jax.devices()[:4])
_, one = run(jax.devices()[:1])
difference = tiny.largest_difference(eight, one)
assert difference < 1e-5, difference
assert tiny.largest_difference(two_by_four, one) < 1e-5
print('largest difference', difference)
"""


def test_eight_devices_equal_one_after_twenty_steps():
  environment = os.environ | {
    'XLA_FLAGS': '--xla_force_host_platform_device_count=8 --xla_backend_optimization_level=0',
    'PYTHONPATH': os.path.dirname(__file__),
  }
  done = subprocess.run(
    [sys.executable, '-c', PROGRAM], env=environment, capture_output=True, text=True, timeout=900
  )
  assert done.returncode == 0, done.stderr[-2000:]
  assert 'largest difference' in done.stdout
