"""The command under kill -9, and two of it at once: files end as those of an undisturbed run."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

ROOT = pathlib.Path(__file__).parent.parent
SMALL = (
  '--config.network.name=mlp',
  '--config.network.hidden=(8,)',
  '--config.teacher.steps=8',
  '--config.student.steps=8',
  '--config.teacher.members=2',
  '--config.teacher.batch_size=16',
  '--config.student.batch_size=16',
  '--config.evaluate.shift=none',
  '--config.evaluate.ood=none',
  '--config.scores=2',
  '--config.steps_per_call=1',
  '--config.checkpoint_seconds=0',
)
PATIENCE = 200  # seconds


class Command:
  """The command, running in a folder; what it prints goes to FOLDER/log.txt."""

  def __init__(self, folder, workdir='runs/a'):
    self.folder, self.run = folder, folder / workdir
    self.log = folder / f'{self.run.name}.txt'
    arguments = [
      f'--config={ROOT}/configs/kd_digits.py',
      '--config.data.name=npz:set.npz',
    ]
    with open(self.log, 'w') as log:
      self.process = subprocess.Popen(
        [sys.executable, '-m', 'ensdistill.main', *arguments, *SMALL, f'--workdir={workdir}'],
        cwd=folder,
        env=os.environ | {'PYTHONPATH': str(ROOT)},
        stdout=log,
        stderr=log,
      )

  def text(self) -> str:
    return self.log.read_text()

  def ends(self) -> str:
    assert self.process.wait(PATIENCE) == 0, self.text()
    return self.text()

  def wait_for(self, happened) -> None:
    until = time.monotonic() + PATIENCE
    while not happened():
      assert self.process.poll() is None and time.monotonic() < until, self.text()
      time.sleep(0.005)

  def lines(self) -> list[dict]:
    path = self.run / 'metrics.jsonl'
    text = path.read_text() if path.exists() else ''
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith('\n')]

  def kill_when(self, happened) -> None:
    self.wait_for(happened)
    self.process.send_signal(signal.SIGKILL)
    assert self.process.wait(PATIENCE) == -signal.SIGKILL, self.text()

  def logged(self, stage: str, step: int) -> bool:
    return any((line['stage'], line['step']) == (stage, step) for line in self.lines())

  def results(self) -> dict:
    """results.json but for what a clock measured, and the folder."""
    results = json.loads((self.run / 'results.json').read_text())
    assert results.pop('timings') and self.run.name in results.pop('command')
    for row in results['rows']:
      row['metrics'] = {
        name: value
        for name, value in row['metrics'].items()
        if not name.startswith('ms_per_example')
      }
    return results


def data_set(folder):
  random = np.random.default_rng(0)
  folder.mkdir()

  def images(n):
    return random.random((n, 8, 8, 1)).astype(np.float32)

  def labels(n):
    return np.arange(n) % 3

  np.savez(
    folder / 'set.npz', x_train=images(60), y_train=labels(60), x_test=images(30), y_test=labels(30)
  )
  return folder


@pytest.fixture(scope='module')
def start():
  """Command, but none outlives these tests."""
  started = []

  def command(*arguments):
    started.append(Command(*arguments))
    return started[-1]

  yield command
  for command in started:
    command.process.kill()
    command.process.wait()


@pytest.fixture(scope='module')
def pair(start, tmp_path_factory):
  """Two runs started at once that want the same teacher: the one that trains it, the other.

  The other is stopped as soon as it has the teacher.
  """
  folder = data_set(tmp_path_factory.mktemp('pair') / 'folder')
  commands = [start(folder, 'runs/a'), start(folder, 'runs/b')]

  def trains(command):
    return 'training 2 members' in command.text()

  commands[0].wait_for(lambda: any(map(trains, commands)))
  trained, other = sorted(commands, key=trains, reverse=True)
  other.kill_when(lambda: 'members found' in other.text())
  return trained, other


def test_two_runs_at_once_train_one_teacher(pair):
  trained, other = pair
  text = other.text()
  assert text.index('waiting for another run that trains it') < text.index('2 of 2 members found')
  assert 'training 2 members' not in text
  assert trained.logged('teacher', 8)
  assert not any(line['stage'] == 'teacher' for line in other.lines())


def test_killed_in_both_stages_ends_bit_identical(start, pair, tmp_path):
  """Each time the last checkpoint is resumed, and what came after it is done again."""
  undisturbed, _ = pair
  folder = data_set(tmp_path / 'folder')
  first = start(folder)
  first.kill_when(lambda: first.logged('teacher', 5))
  second = start(folder)
  second.kill_when(lambda: second.logged('student', 5))
  assert 'teacher: continues at step ' in second.text()
  last = start(folder)
  text = last.ends()
  assert '2 of 2 members found' in text and 'student: continues at step ' in text
  assert not (last.run / 'checkpoints').exists()
  undisturbed.ends()
  assert last.results() == undisturbed.results()
  assert last.lines() == undisturbed.lines()
