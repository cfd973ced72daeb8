"""The command under kill -9, and two of it at once: the files end as those of one undisturbed run."""

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
      f'--config.data.name=npz:{folder}/set.npz',
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

  def kill_at(self, stage: str, step: int) -> None:
    self.wait_for(lambda: any((x['stage'], x['step']) == (stage, step) for x in self.lines()))
    self.process.send_signal(signal.SIGKILL)
    assert self.process.wait(PATIENCE) == -signal.SIGKILL, self.text()

  def results(self) -> dict:
    """results.json but for what a clock measured."""
    results = json.loads((self.run / 'results.json').read_text())
    assert results.pop('timings')
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
  x = lambda n: random.random((n, 8, 8, 1)).astype(np.float32)
  y = lambda n: np.arange(n) % 3
  np.savez(folder / 'set.npz', x_train=x(60), y_train=y(60), x_test=x(30), y_test=y(30))
  return folder


@pytest.fixture(scope='module')
def together(tmp_path_factory):
  """Two runs started at once, which want the same teacher: the one that trains it, the other."""
  folder = data_set(tmp_path_factory.mktemp('together') / 'folder')
  commands = [Command(folder, 'runs/a'), Command(folder, 'runs/b')]
  texts = [command.ends() for command in commands]
  trained = ['training 2 members' in text for text in texts]
  assert sorted(trained) == [False, True], texts
  return commands[trained.index(True)], commands[trained.index(False)]


def test_two_runs_at_once_train_one_teacher(together):
  trained, waited = together
  text = waited.text()
  waiting, found = (
    text.index('another run is training it; waiting'),
    text.index('2 of 2 members found'),
  )
  assert waiting < found
  assert {line['stage'] for line in trained.lines()} == {'teacher', 'student'}
  assert {line['stage'] for line in waited.lines()} == {'student'}
  a, b = trained.results(), waited.results()
  assert a.pop('command') != b.pop('command')
  assert a == b


def test_killed_in_both_stages_ends_bit_identical(together, tmp_path):
  """Once the checkpoint before the kill is resumed, and what came after it is done again."""
  undisturbed, _ = together
  folder = data_set(tmp_path / 'folder')
  workdir = f'runs/{undisturbed.run.name}'
  Command(folder, workdir).kill_at('teacher', 5)
  second = Command(folder, workdir)
  second.kill_at('student', 5)
  assert 'teacher: goes on from step ' in second.text()
  last = Command(folder, workdir)
  text = last.ends()
  assert '2 of 2 members found' in text and 'student: goes on from step ' in text
  assert not (last.run / 'checkpoints').exists()
  assert last.results() == undisturbed.results()
  assert last.lines() == undisturbed.lines()
