"""Measure seconds, memory and accuracy of the first commands of a new user:

  python -m benchmarks.startup [--quick] [--json=FILE] [--config=configs/kd_digits.py] [--config...]

`--help`, then the demo with a cold and with a warm compilation cache, then its student as a
library: `ensdistill.load` and predictions with a cold and a warm cache. Each runs in new processes;
short ones are repeated, and the median is printed with the extremes. Goals on two cores: `--help`
0.3 s, the demo 90 s and 30 s, 2 GB, 98 % for the ensemble of 4; beyond importing jax and flax,
0.7 s to load and 0.5 s for the first prediction.
"""

import argparse
import functools
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

from benchmarks import timing

ROOT = pathlib.Path(__file__).resolve().parent.parent
QUICK = ('--config.teacher.steps=4', '--config.student.steps=4', '--config.scores=1')
REPEATS = 5
SIZES = (100, 37, 1, 64)  # of the predictions; the last one shares a program with the second

# Prints the seconds of each part of a process that loads a student and predicts.
LIBRARY = """
import json, sys, time
parts, began = {}, time.perf_counter()
def part(name):
  global began
  parts[name], began = time.perf_counter() - began, time.perf_counter()
import jax, flax, numpy as np
part('import jax, flax')
import ensdistill
model = ensdistill.load(sys.argv[1])
part('load')
x = np.random.default_rng(0).random((512, *model.spec['shape']), np.float32)
for size in map(int, sys.argv[2:]):
  began = time.perf_counter()
  model.predict(x[:size])
  part(f'predict {size}')
began = time.perf_counter()
for _ in range(100):
  model.predict(x[:size])
part('100 predictions more')
print(json.dumps(parts))
"""


def library(student, cache) -> dict[str, float]:
  """Return the seconds of each part of a new process that loads a student and predicts."""
  command = [sys.executable, '-c', LIBRARY, str(student), *map(str, SIZES)]
  env = os.environ | {'PYTHONPATH': str(ROOT), 'ENSDISTILL_CACHE': str(cache)}
  done = subprocess.run(command, env=env, capture_output=True, text=True)
  if done.returncode:
    raise SystemExit(done.stderr)
  return json.loads(done.stdout)


def spread(values) -> list[float]:
  """Return median, smallest and largest value."""
  return [round(f(values), 3) for f in (statistics.median, min, max)]


def shown(name: str, found: dict[str, list[float]]) -> None:
  for part, (median, low, high) in found.items():
    print(f'{name}: {part}: {median} s ({low} to {high})', flush=True)


def repeated(run, repeats: int) -> dict[str, list[float]]:
  """Return the spread of each part that `run()` measures."""
  found = [run() for _ in range(repeats)]
  return {part: spread([one[part] for one in found]) for part in found[0]}


def timed(arguments, folder, cache) -> dict:
  """Run the command; return its seconds and its peak memory."""
  command = [sys.executable, '-m', 'ensdistill.main', *arguments]
  env = os.environ | {'PYTHONPATH': str(ROOT), 'ENSDISTILL_CACHE': str(cache)}
  began = time.perf_counter()
  with open(folder / 'log.txt', 'wb') as log:
    process = subprocess.Popen(command, cwd=folder, env=env, stdout=log, stderr=log)
    _, status, usage = os.wait4(process.pid, 0)
  seconds = time.perf_counter() - began
  process.returncode = os.waitstatus_to_exitcode(status)
  if process.returncode:
    raise SystemExit((folder / 'log.txt').read_text())
  # KiB on Linux, bytes on macOS.
  size = usage.ru_maxrss / (2**30 if sys.platform == 'darwin' else 2**20)
  return {'seconds': round(seconds, 2), 'gigabytes': round(size, 2)}


def help_of(command) -> dict[str, float]:
  """Return the seconds of a command's --help in a new process."""
  began = time.perf_counter()
  env = os.environ | {'PYTHONPATH': str(ROOT)}
  subprocess.run([sys.executable, *command, '--help'], env=env, capture_output=True, check=True)
  return {'seconds': time.perf_counter() - began}


def demo(config, overrides, folder, cache) -> dict:
  """Run the command in a new folder; return `timed`, its stages and the accuracy of each row."""
  folder.mkdir()
  found = timed([f'--config={config}', '--workdir=runs/demo', *overrides], folder, cache)
  results = json.loads((folder / 'runs' / 'demo' / 'results.json').read_text())
  found['stages'] = {stage: round(value, 2) for stage, value in results['timings'].items()}
  found['acc'] = {row['name']: row['metrics'].get('acc') for row in results['rows']}
  return found | {'versions': results['versions']}


def main():
  parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
  parser.add_argument('--config', default='configs/kd_digits.py')
  parser.add_argument(
    '--quick', action='store_true', help='run a few steps only, to test the benchmark'
  )
  parser.add_argument('--json', help='file for the measurements')
  options, overrides = parser.parse_known_args()
  path, *variant = options.config.split(':', 1)
  config = ':'.join([str(pathlib.Path(path).resolve()), *variant])
  overrides = [*(QUICK if options.quick else ()), *overrides]

  found = {'machine': timing.machine()}
  print(f'machine: {json.dumps(found["machine"])}', flush=True)
  with tempfile.TemporaryDirectory() as temporary:
    folder, cache = pathlib.Path(temporary), pathlib.Path(temporary, 'cache')
    repeats = 2 if options.quick else REPEATS
    for command in (['-m', 'ensdistill'], ['-m', 'ensdistill.main']):
      name = ' '.join(['python', *command, '--help'])
      found[name] = repeated(functools.partial(help_of, command), repeats)
      shown(name, found[name])
    for name in ('cold', 'warm'):
      found[name] = demo(config, overrides, folder / name, cache)
      found['versions'] = found[name].pop('versions')
      print(f'{name} cache: {json.dumps(found[name])}', flush=True)
    student = folder / 'warm' / 'runs' / 'demo' / 'student'
    caches = iter(range(repeats))
    found['cold library'] = repeated(lambda: library(student, folder / f'{next(caches)}'), repeats)
    found['warm library'] = repeated(lambda: library(student, folder / '0'), repeats)
    for name in ('cold library', 'warm library'):
      shown(name, found[name])
  print(f'versions: {json.dumps(found["versions"])}')
  same = found['cold']['acc'] == found['warm']['acc']
  print(f'the two runs have {"the same" if same else "DIFFERENT"} accuracies')
  if options.json:
    pathlib.Path(options.json).write_text(json.dumps(found, indent=2) + '\n')


if __name__ == '__main__':
  main()
