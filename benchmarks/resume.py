"""Kill a run at random moments and compare it with an uninterrupted run:

  python -m benchmarks.resume [--config=configs/kd_digits.py] [--kills=5] [--seed=0] [--config....]

The command prints the stage and step of each kill, then 'identical' or the differences (exit code
1). A run is killed a random time after it has written a random number of lines of metrics. The
folders are temporary. A checkpoint is written every second; --config.checkpoint_seconds=... changes
this.
"""

import argparse
import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
RUN = 'runs/run'  # the same in every folder, because results.json holds the command


def start(folder, arguments, run: str = RUN) -> subprocess.Popen:
  """Start the command in a new process; its output goes to FOLDER/log.txt."""
  folder.mkdir(exist_ok=True)
  with open(folder / 'log.txt', 'ab') as log:
    return subprocess.Popen(
      [sys.executable, '-m', 'ensdistill.main', f'--workdir={run}', *arguments],
      cwd=folder,
      env=os.environ | {'PYTHONPATH': str(ROOT)},
      stdout=log,
      stderr=log,
    )


def finish(process, folder) -> None:
  if process.wait() != 0:
    raise SystemExit((folder / 'log.txt').read_text())


def results(folder, run: str = RUN) -> dict:
  """Return results.json without measured times and what made it."""
  found = json.loads((folder / run / 'results.json').read_text())
  del found['timings']
  found.pop('made_by', None)
  for row in found['rows']:
    for values in (row['metrics'], row['se']):
      for name in [name for name in values if name.startswith('ms_per_example')]:
        del values[name]
  return found


def lines(folder, run: str = RUN) -> list[dict]:
  """Return the complete lines of metrics.jsonl."""
  path = folder / run / 'metrics.jsonl'
  text = path.read_text() if path.exists() else ''
  return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith('\n')]


def differences(a, b, where: str = '') -> list[str]:
  """Return the paths at which two JSON values differ."""
  if isinstance(a, dict) and isinstance(b, dict):
    names = sorted(a.keys() | b.keys())
    return [d for n in names for d in differences(a.get(n), b.get(n), f'{where}/{n}')]
  if isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
    return [d for i, (x, y) in enumerate(zip(a, b)) for d in differences(x, y, f'{where}/{i}')]
  return [] if a == b else [f'{where}: {a!r:.80} against {b!r:.80}']


def moment(folder) -> str:
  """Describe where a run was killed, by its last line of metrics and its newest checkpoint."""
  written = lines(folder)
  logged = f'{written[-1]["stage"]} step {written[-1]["step"]}' if written else 'nothing'
  manifests = folder.glob('runs/**/checkpoints/*/*.json')
  newest = max(manifests, key=lambda path: path.stat().st_mtime, default=None)
  saved = f'{newest.parent.name} step {newest.stem}' if newest else 'nothing'
  return f'{logged} was logged, {saved} was saved'


def kill_after(process, folder, count: int, delay: float) -> bool:
  """Kill a run `delay` seconds after `count` lines of metrics; return False if it had finished."""
  while len(lines(folder)) < count:
    if process.poll() is not None:
      finish(process, folder)
      return False
    time.sleep(0.02)
  time.sleep(delay)
  process.send_signal(signal.SIGKILL)
  return process.wait() == -signal.SIGKILL


def main():
  parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
  parser.add_argument('--config', default='configs/kd_digits.py')
  parser.add_argument('--kills', type=int, default=5)
  parser.add_argument('--seed', type=int, default=0)
  options, overrides = parser.parse_known_args()
  path, *variant = options.config.split(':', 1)
  config = ':'.join([str(pathlib.Path(path).resolve()), *variant])
  arguments = [f'--config={config}', '--config.checkpoint_seconds=1', *overrides]
  draw = random.Random(options.seed)

  with tempfile.TemporaryDirectory() as temporary:
    whole, killed = pathlib.Path(temporary, 'whole'), pathlib.Path(temporary, 'killed')
    began = time.monotonic()
    finish(start(whole, arguments), whole)
    seconds, total = time.monotonic() - began, len(lines(whole))
    print(f'uninterrupted: {seconds:.0f} s, {total} lines of metrics', flush=True)
    for count in sorted(draw.randrange(total) for _ in range(options.kills)):
      process = start(killed, arguments)
      if not kill_after(process, killed, count, draw.uniform(0, seconds / total)):
        raise SystemExit(f'the run finished before line {count}, at which it should be killed')
      print(f'killed: {moment(killed)}', flush=True)
    finish(start(killed, arguments), killed)
    found = [f'results.json{d}' for d in differences(results(whole), results(killed))]
    found += [f'metrics.jsonl{d}' for d in differences(lines(whole), lines(killed))]
  print('\n'.join(found) or 'identical')
  sys.exit(bool(found))


if __name__ == '__main__':
  main()
