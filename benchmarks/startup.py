"""Measure seconds, memory and accuracy of the first commands of a new user:

  python -m benchmarks.startup [--quick] [--json=FILE] [--config=configs/kd_digits.py] [--config...]

`--help`, then the demo with a cold and with a warm compilation cache, each in a new process and a
new folder. Goals on two cores: 3 s, 90 s, 45 s, 2 GB, 98 % for the ensemble of 4.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

from benchmarks import timing

ROOT = pathlib.Path(__file__).resolve().parent.parent
QUICK = ('--config.teacher.steps=4', '--config.student.steps=4', '--config.scores=1')


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
    found['help'] = timed(['--help'], folder, cache)
    print(f'help: {found["help"]["seconds"]} s', flush=True)
    for name in ('cold', 'warm'):
      found[name] = demo(config, overrides, folder / name, cache)
      found['versions'] = found[name].pop('versions')
      print(f'{name} cache: {json.dumps(found[name])}', flush=True)
  print(f'versions: {json.dumps(found["versions"])}')
  same = found['cold']['acc'] == found['warm']['acc']
  print(f'the two runs have {"the same" if same else "DIFFERENT"} accuracies')
  if options.json:
    pathlib.Path(options.json).write_text(json.dumps(found, indent=2) + '\n')


if __name__ == '__main__':
  main()
