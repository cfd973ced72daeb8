"""Measure `ensdistill predict` beside the network alone: python -m benchmarks.predict STUDENT

A file of --rows random rows (.npy) becomes a file of predictions (.parquet, .csv and .jsonl). The
goal is at most 1.3 times the time of the network on the same rows in memory, without start-up and
compiling, and a peak memory that does not grow with the rows.
"""

import argparse
import functools
import json
import pathlib
import resource
import tempfile
import time

import numpy as np

from ensdistill import export, runtime
from ensdistill.commands import predict
from ensdistill.evaluation.inference import Predictor


def draw(model, rows: int, path: pathlib.Path) -> None:
  """Write random rows of what the student takes, block by block."""
  shape, random = tuple(model.spec['shape']), np.random.default_rng(0)
  images = len(shape) == 3
  whole = np.lib.format.open_memmap(
    path, mode='w+', dtype=np.uint8 if images else np.float32, shape=(rows, *shape)
  )
  mean, deviation = (np.asarray(model.spec[name], np.float32) for name in ('mean', 'std'))
  for start in range(0, rows, 10_000):
    count = min(10_000, rows - start)
    if images:
      whole[start : start + count] = random.integers(0, 256, (count, *shape), np.uint8)
    else:
      whole[start : start + count] = mean + deviation * random.normal(size=(count, *shape))


def alone(model, x, batch: int) -> float:
  """Return the seconds of the network on rows in memory."""
  predictor, variables = model._ready(batch)
  method = Predictor.probabilities if model.family.has_classes else Predictor.__call__
  once = functools.partial(method, predictor, variables)
  once(x[:batch])
  began = time.perf_counter()
  for start in range(0, len(x), 8000):
    once(x[start : start + 8000])
  return time.perf_counter() - began


def command(student: str, model, source: pathlib.Path, out: pathlib.Path, batch: int) -> float:
  """Return the seconds of the command, without loading the student."""
  flags = [f'--out={out}', f'--batch_size={batch}']
  if model.calibration:
    flags += ['--coverage=.9', '--abstain=.05']
  options = predict._parse([student, str(source), *flags], 'predict')
  began = time.perf_counter()
  predict.predict(model, options, predict.wanted_of(model, options))
  return time.perf_counter() - began


def main():
  parser = argparse.ArgumentParser(description=(__doc__ or '').split('\n')[0])
  parser.add_argument('student')
  parser.add_argument('--rows', type=int, default=100_000)
  parser.add_argument('--repeats', type=int, default=3)
  parser.add_argument('--batch_size', type=int, default=500)
  parser.add_argument('--kinds', default='parquet,csv,jsonl')
  options = parser.parse_args()
  runtime.prepare()
  model = export.load(options.student)
  with tempfile.TemporaryDirectory() as temporary:
    source = pathlib.Path(temporary) / 'x.npy'
    draw(model, options.rows, source)
    x = np.load(source, mmap_mode='r')
    small = pathlib.Path(temporary) / 'small.npy'
    np.save(small, x[: 2 * options.batch_size])
    kinds = options.kinds.split(',')
    taken: dict[str, list[float]] = {'network alone': [], **{kind: [] for kind in kinds}}
    for kind in kinds:  # compile, and import the writers
      out = pathlib.Path(temporary) / f'p.{kind}'
      command(options.student, model, small, out, options.batch_size)
    for _ in range(options.repeats):
      taken['network alone'].append(alone(model, x, options.batch_size))
      for kind in kinds:
        out = pathlib.Path(temporary) / f'p.{kind}'
        taken[kind].append(command(options.student, model, source, out, options.batch_size))
  base = min(taken['network alone'])
  result = {
    name: {'seconds': round(min(seconds), 3), 'ratio': round(min(seconds) / base, 3)}
    for name, seconds in taken.items()
  }
  peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
  print(json.dumps({'rows': options.rows, **result, 'peak GB': round(peak, 2)}, indent=2))


if __name__ == '__main__':
  main()
