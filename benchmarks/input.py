"""Measure how many images a second stream from files, and the memory in use:

  python -m benchmarks.input [--images=100000] [--size=224] [--batch=256] [--workers=N] [--small]

Each generated JPEG file is decoded, cropped at random and sent to the device once. For comparison,
the command also measures decoding alone, and the images that a training step needs. Memory is that
of the process and its workers, with shared pages counted once. It should not grow after the workers
have started.
"""

import argparse
import json
import os
import pathlib
import tempfile
import time

import jax
import jax.numpy as jnp
import numpy as np
import PIL.Image
import psutil  # installed with Grain

from benchmarks import timing
from ensdistill import data, processes
from ensdistill.config import build, recipes
from ensdistill.training import step as train

DIFFERENT = 500  # distinct files; all others are links to them
CLASSES = 100


def generate(folder: pathlib.Path, count: int, size: int) -> None:
  """Write `count` smooth images, a quarter larger than `size`, into class folders."""
  random, side = np.random.default_rng(0), size * 5 // 4
  for number in range(count):
    path = folder / f'{number % CLASSES:03d}' / f'{number:07d}.jpg'
    if number < CLASSES:
      path.parent.mkdir(parents=True)
    if number < DIFFERENT:
      coarse = random.integers(0, 256, (side // 8, side // 8, 3), np.uint8)
      smooth = PIL.Image.fromarray(coarse).resize((side, side), PIL.Image.Resampling.BICUBIC)
      smooth.save(path, quality=90)
    else:
      origin = number % DIFFERENT
      os.link(folder / f'{origin % CLASSES:03d}' / f'{origin:07d}.jpg', path)


def decoding(x, seconds: float) -> float:
  """Return how many images a second one core decodes and crops, without any other work."""
  windows = data.windows.random_windows(x.form, 0.08, len(x), 0)
  began, count = time.perf_counter(), 0
  while time.perf_counter() - began < seconds:
    x.decode(count % len(x), windows[count % len(x)])
    count += 1
  return count / (time.perf_counter() - began)


def memory() -> float:
  """Return the gigabytes that this process and its workers use."""
  processes = [psutil.Process(), *psutil.Process().children(recursive=True)]
  return sum(process.memory_full_info().pss for process in processes) / 2**30


def streaming(dataset, *, batch: int, workers: int) -> dict:
  """Stream one epoch to the device; return images a second after the first batches, and memory."""
  arrays = {'x': dataset.train.x, 'y': dataset.train.y}
  steps = data.sampler.steps_per_epoch(len(dataset.train.y), batch)
  orders = jax.random.split(jax.random.key(0), 1)
  stream = data.Stream(arrays, orders, steps=steps, batch=batch, area=0.08, workers=workers)
  first = min(2 * max(workers, 1), steps // 4)  # the batches that workers prepare at their start
  began, seen, held = time.perf_counter(), 0, []
  for step, placed in enumerate(data.ahead(stream.starting(0), jax.device_put)):
    seen += placed.arrays['x'].shape[1]
    if step == first:
      started, at = time.perf_counter(), seen
    if step >= first and (step - first) % max((steps - first) // 20, 1) == 0:
      jax.block_until_ready(placed)
      held.append(round(memory(), 3))
  return {
    'images': seen,
    'first batches': started - began,
    'images/s': (seen - at) / (time.perf_counter() - started),
    'gigabytes': held,
  }


def need(dataset, config, batch: int, seconds: float) -> float:
  """Return how many images a second a training step consumes, with its batch on the device."""
  method = build.teacher_method(config, build.parts(config), dataset)
  keys, orders = train.network_keys(jax.random.key(0), [0])
  state = train.start(keys, orders, method, jnp.zeros((1, *dataset.shape)))
  state = jax.tree.map(lambda leaf: leaf[0], state)
  x = jnp.zeros((batch, *dataset.shape))
  step = jax.jit(
    lambda state: train.train_step(state, {'x': x, 'y': jnp.zeros(batch, int)}, None, method)[0]
  )

  def run(count):
    nonlocal state
    for _ in range(count):
      state = step(state)
    jax.block_until_ready(state.step)

  taken = timing.take_turns({'step': timing.Contender(run)}, seconds=seconds, turn=0.2)
  return batch / min(taken['step'])


def main():
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('--images', type=int, default=100_000)
  parser.add_argument('--size', type=int, default=224)
  parser.add_argument('--batch', type=int, default=256)
  parser.add_argument('--workers', type=int, default=processes.cores())
  parser.add_argument(
    '--small', action='store_true', help="measure the step of the recipe's small variant"
  )
  options = parser.parse_args()
  timing.prepare()
  print(f'machine: {json.dumps(timing.machine())}')
  with tempfile.TemporaryDirectory() as temporary:
    generate(pathlib.Path(temporary, 'train'), options.images + 1, options.size)
    generate(pathlib.Path(temporary, 'test'), CLASSES, options.size)
    dataset = data.load(f'folder:{temporary}', size=options.size, stream='on', valid=1)
    alone = decoding(dataset.train.x, 5)
    cores = processes.cores()
    print(
      f'decoding alone: {alone:,.0f} images/s a core, {cores * alone:,.0f} on {cores}', flush=True
    )
    found = streaming(dataset, batch=options.batch, workers=options.workers)
    rate, held = found['images/s'], found['gigabytes']
    print(
      f'streaming {found["images"]:,} images of {options.size} px, {options.workers} workers: '
      f'{rate:,.0f} images/s ({100 * rate / (cores * alone):.0f} % of decoding alone), the first '
      f'batches after {found["first batches"]:.1f} s'
    )
    print(f'memory over the epoch, GB: {" ".join(map(str, held))}', flush=True)
    config = recipes.make('single', 'imagenet', 'small' if options.small else '')
    wanted = need(dataset, config, options.batch, 5)
    print(
      f'a step of one {config.network.name}-{config.network.depth}, batch {options.batch}: needs '
      f'{wanted:,.0f} images/s; the stream delivers {rate / wanted:.1f} times this rate'
    )


if __name__ == '__main__':
  main()
