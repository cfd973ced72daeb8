"""Measure how the cost of a run grows with its data: python -m benchmarks.data_size [--json=FILE]

  [--sizes=1000,10000,100000] [--side=16] [--steps=200]

Generated uint8 images in memory (an npz file), and JPEG files that are streamed, each in a new
process. Seconds per training step should not depend on the size, the evaluation should take a
constant time per example, and streaming should keep host memory flat. Peak memory (RSS) is that of
the process; in the last column, what it used before any data is subtracted.
"""

import argparse
import json
import os
import pathlib
import resource
import subprocess
import sys
import tempfile
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import input as files
from benchmarks import timing
from ensdistill import data
from ensdistill.config import build, settings
from ensdistill.evaluation import inference
from ensdistill.training import loop as loops
from ensdistill.training import step as train
from ensdistill.training.logs import Logs

ROOT = pathlib.Path(__file__).resolve().parent.parent
BATCH = 64


def generate(path: pathlib.Path, size: int, side: int) -> None:
  """Write `size` training images, with few others, as the file `path`.npz and the folder `path`."""
  files.generate(path / 'train', size, side)
  files.generate(path / 'test', files.CLASSES, side)
  random = np.random.default_rng(0)
  arrays: dict[str, Any] = {}
  for split, count in (('train', size), ('valid', 1), ('test', files.CLASSES)):
    arrays[f'x_{split}'] = random.integers(0, 256, (count, side, side, 3), np.uint8)
    arrays[f'y_{split}'] = np.arange(count, dtype=np.int32) % files.CLASSES
  np.savez(path.with_suffix('.npz'), **arrays)


def peak() -> float:
  """Return the peak memory of this process, in MB."""
  size = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
  return size / (2**20 if sys.platform == 'darwin' else 2**10)


def measure(name: str, side: int, steps: int) -> dict:
  """Return seconds per step, seconds per evaluated example, and memory, over one data set."""
  timing.prepare()
  jax.block_until_ready(jnp.zeros(1) + 1)
  before = peak()
  began = time.perf_counter()
  folder = {'size': side, 'stream': 'on', 'valid': 1}
  reading: dict[str, Any] = folder if name.startswith('folder:') else {}
  dataset = data.load(name, **reading)
  loading = time.perf_counter() - began
  config = settings.default()
  config.network.update(name='mlp', hidden=(64,))
  config.teacher.update(batch_size=BATCH, steps=2 * steps)
  method = build.teacher_method(config, build.parts(config), dataset)
  keys, orders = train.network_keys(jax.random.key(0), [0])
  states = train.start(keys, orders, method, jnp.zeros((1, *dataset.shape)))
  arrays = build.arrays(dataset.train, dataset)
  feed = build.training_feed(
    arrays, orders, streams=dataset.streams, steps=2 * steps, batch=BATCH, workers=0
  )
  variables = jax.device_get(jax.tree.map(lambda leaf: leaf[0], states.variables))
  took = training(feed, method, states, steps)  # donates the states
  freeze = method.student.freeze
  predictor = inference.predictor(method, freeze, dataset, batch=500)
  for _ in predictor.blocks(variables, dataset.test.x):
    pass  # compiles
  began, seen = time.perf_counter(), 0
  for block in predictor.blocks(variables, dataset.train.x):
    seen += len(block.log_probs_BMK)
  assert seen == len(dataset.train.y)
  return {
    'loading, s': loading,
    'step, ms': 1e3 * took,
    'evaluation, µs an example': 1e6 * (time.perf_counter() - began) / seen,
    'peak, MB': peak(),
    'more than before data, MB': peak() - before,
  }


def training(feed, method, states, steps: int) -> float:
  """Return the seconds of a step, after as many that warm up."""

  def over_one_network(function):
    return lambda stacked, *shared: jax.tree.map(
      lambda leaf: leaf[None],
      function(jax.tree.map(lambda leaf: leaf[0], stacked), *shared),
    )

  def step(state, seen):
    return train.train_step(state, feed.draw(seen, state), None, method)

  device_mesh = build.mesh.make(1, BATCH, jax.devices()[:1])
  blank = Logs.blank(over_one_network(step), states, (feed.shapes,))
  advance = loops.program(step, over_one_network)
  per_call = feed.steps_per_call or 10
  source = feed.start(0, device_mesh)
  try:
    for _ in range(2):
      began = time.perf_counter()
      for _ in range(steps // per_call):
        states, logs = advance(states, jax.tree.map(np.copy, blank), per_call, next(source))
        jax.block_until_ready(logs)
      took = time.perf_counter() - began
  finally:
    source.close()
  return took / (steps // per_call * per_call)


def main():
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('--sizes', default='1000,10000,100000')
  parser.add_argument('--side', type=int, default=16, help='pixels along each side')
  parser.add_argument('--steps', type=int, default=200)
  parser.add_argument('--json', help='file for the measurements')
  parser.add_argument('--one', help=argparse.SUPPRESS)  # a data set: measure in this process
  options = parser.parse_args()
  if options.one:
    print(json.dumps(measure(options.one, options.side, options.steps)))
    return
  found = {'machine': timing.machine(), 'rows': {}}
  print(f'machine: {json.dumps(found["machine"])}', flush=True)
  with tempfile.TemporaryDirectory() as temporary:
    for size in map(int, options.sizes.split(',')):
      path = pathlib.Path(temporary, str(size))
      generate(path, size, options.side)
      for kind, name in (('in memory', f'npz:{path}.npz'), ('streamed', f'folder:{path}')):
        command = [sys.executable, '-m', 'benchmarks.data_size', f'--one={name}']
        command += [f'--steps={options.steps}', f'--side={options.side}']
        done = subprocess.run(command, cwd=ROOT, env=os.environ, capture_output=True, text=True)
        if done.returncode:
          raise SystemExit(done.stderr)
        row = json.loads(done.stdout.splitlines()[-1])
        found['rows'][f'{size:,} {kind}'] = row
        values = ', '.join(f'{key} {value:.3g}' for key, value in row.items())
        print(f'{size:,} {kind}: {values}', flush=True)
  if options.json:
    pathlib.Path(options.json).write_text(json.dumps(found, indent=2) + '\n')


if __name__ == '__main__':
  main()
