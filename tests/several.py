"""Runs of the command in several processes on this machine, with a CPU device each."""

import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

import tensor_files

ROOT = pathlib.Path(__file__).parent.parent
HEARTBEAT = 4  # seconds; the default of 10 is for hosts with a network between them
PATIENCE = 900  # seconds; a busy machine needs most of them
TINY = (
  '--config.network.name=mlp',
  '--config.network.hidden=(8,)',
  '--config.data.limit=64',
  '--config.teacher.steps=8',
  '--config.student.steps=8',
  '--config.teacher.members=2',
  '--config.teacher.batch_size=16',
  '--config.student.batch_size=16',
  '--config.evaluate.shift=none',
  '--config.evaluate.ood=none',
  '--config.logs=4',
  '--config.scores=2',
  '--config.steps_per_call=1',
  '--config.checkpoint_seconds=0',
)


def free_port() -> int:
  """Return a port that no process listens on."""
  with socket.socket() as free:
    free.bind(('127.0.0.1', 0))
    return free.getsockname()[1]


class Service:
  """The keys of a coordination service."""

  def __init__(self):
    self.keys = {}

  def key_value_set(self, key, value, allow_overwrite=False):
    if key in self.keys and not allow_overwrite:
      raise RuntimeError('ALREADY_EXISTS')
    self.keys[key] = value

  def key_value_try_get(self, key):
    import jax

    if key not in self.keys:
      raise jax.errors.JaxRuntimeError('NOT_FOUND: no such key')
    return self.keys[key]

  def key_value_dir_get(self, folder):
    return [(key, value) for key, value in self.keys.items() if key.startswith(folder)]

  def blocking_key_value_get(self, key, milliseconds):
    """Return a value, without waiting for it."""
    import jax

    if key not in self.keys:
      raise jax.errors.JaxRuntimeError('DEADLINE_EXCEEDED: no such key')
    return self.keys[key]

  def key_value_delete(self, folder):
    for key in [key for key in self.keys if key.startswith(folder)]:
      del self.keys[key]


class Run:
  """A run in `count` processes; with `devices`, a lone process that has so many."""

  def __init__(self, folder, *arguments, count=2, devices=0, recipe='kd_digits', **settings):
    self.folder, self.count = pathlib.Path(folder), 1 if devices else count
    self.run = self.folder / 'runs' / pathlib.Path(recipe).stem
    self.logs = [self.folder / f'{i}.txt' for i in range(self.count)]
    self.folder.mkdir(exist_ok=True)
    variables = settings.pop('variables', [{}] * self.count)
    flags = '' if devices == 0 else f'--xla_force_host_platform_device_count={devices}'
    base = os.environ | {
      'PYTHONPATH': str(ROOT),
      'ENSDISTILL_HEARTBEAT': str(HEARTBEAT),
      'JAX_PLATFORMS': 'cpu',
      'XLA_FLAGS': f'{os.environ.get("XLA_FLAGS", "")} {flags}',
    }
    base.pop('TF_CPP_MIN_LOG_LEVEL', None)  # JAX sets it in the tests, users do not
    port, self.processes = free_port(), []
    for i, log in enumerate(self.logs):
      own = [f'--coordinator=127.0.0.1:{port}', f'--num_processes={self.count}']
      own = [*own, f'--process_id={i}'] if self.count > 1 and not any(variables) else []
      changes = [f'--config.{name.replace("__", ".")}={v}' for name, v in settings.items()]
      command = [sys.executable, '-m', 'ensdistill.main', f'--config={recipe}', *TINY, *changes]
      command += [f'--workdir={self.run}', *arguments, *own]
      with open(log, 'w') as file:
        self.processes.append(
          subprocess.Popen(
            command, cwd=self.folder, env=base | variables[i], stdout=file, stderr=file
          )
        )

  def text(self, number: int | None = None) -> str:
    """Return what one process printed, or all of them, but for what Gloo prints."""
    logs = self.logs if number is None else [self.logs[number]]
    lines = [line for log in logs for line in log.read_text().splitlines()]
    return '\n'.join(line for line in lines if not line.startswith('[Gloo]'))

  def codes(self, seconds: float = PATIENCE) -> list[int]:
    """Wait for the end of all; return their exit codes."""
    until = time.monotonic() + seconds
    return [process.wait(max(0.1, until - time.monotonic())) for process in self.processes]

  def ends(self) -> 'Run':
    """Wait for a good end."""
    assert self.codes() == [0] * self.count, self.text()
    return self

  def when(self, happened, number: int, what: signal.Signals) -> None:
    """Send a process a signal once something has happened."""
    until = time.monotonic() + PATIENCE
    while not happened():
      assert all(process.poll() is None for process in self.processes), self.text()
      assert time.monotonic() < until, self.text()
      time.sleep(0.01)
    self.processes[number].send_signal(what)

  def lines(self) -> list[dict]:
    path = self.run / 'metrics.jsonl'
    text = path.read_text() if path.exists() else ''
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith('\n')]

  def logged(self, stage: str, step: int) -> bool:
    return any((line['stage'], line['step']) == (stage, step) for line in self.lines())

  def results(self) -> list[dict]:
    """Return the rows of results.json but for what a clock measured."""
    rows = json.loads((self.run / 'results.json').read_text())['rows']
    for row in rows:
      row['metrics'] = {k: v for k, v in row['metrics'].items() if not k.startswith('ms_per')}
    return rows

  def weights(self) -> dict:
    """Return every stored network."""
    files = sorted(self.folder.glob('runs/**/*.safetensors'))
    return {str(path.relative_to(self.folder)): tensor_files.load(path) for path in files}

  def kill(self) -> None:
    for process in self.processes:
      process.kill()
      process.wait()


def assert_same(one: Run, other: Run) -> None:
  """Both runs ended with the same numbers, bit for bit."""
  a, b = one.weights(), other.weights()
  assert a.keys() == b.keys() and len(a) >= 3
  for path in a:
    for name, tensor in a[path].items():
      assert tensor.tobytes() == b[path][name].tobytes(), (path, name)
  assert one.results() == other.results()
  assert one.lines() == other.lines()
