"""Signals: a flag in the process, and what commands do when they are stopped."""

import json
import os
import pathlib
import shlex
import signal
import subprocess
import sys
import time

import pytest
from several import Service
from test_resume import SMALL, data_set

from ensdistill import stopping
from ensdistill.processes.group import Group, State

ROOT = pathlib.Path(__file__).parent.parent
# Commands start with the default handler of Ctrl-C, which needs a fork.
pytestmark = [
  pytest.mark.filterwarnings('ignore:os.fork:RuntimeWarning'),
  pytest.mark.filterwarnings('ignore:.*fork.*:DeprecationWarning'),
]
LONG = ('--config.teacher.steps=200000', '--config.checkpoint_seconds=1000')
WITHIN = 10  # seconds from a signal to the end, compilation aside
PATIENCE = 200


def test_a_signal_sets_a_flag_and_handlers_are_restored():
  before = [signal.getsignal(number) for number in stopping.SIGNALS]
  with stopping.listening():
    with stopping.listening():  # a command inside another one
      stopping.check()
      os.kill(os.getpid(), signal.SIGTERM)
      until = time.monotonic() + 5
      while not stopping.requested() and time.monotonic() < until:
        time.sleep(0.01)
    with pytest.raises(stopping.Stopped) as stop:
      stopping.check('something')
    assert (stop.value.code, stop.value.name, stop.value.saved) == (143, 'SIGTERM', 'something')
  assert not stopping.requested()
  assert before == [signal.getsignal(number) for number in stopping.SIGNALS]


def test_a_signal_before_a_process_joins_the_others_is_told_to_them(monkeypatch):
  group = Group(Service(), 1, 2, heartbeat=10.0)
  monkeypatch.setattr(State, 'group', group)
  stopping.tell()
  assert group.get('stop') is None
  monkeypatch.setattr(stopping._Asked, 'number', signal.SIGTERM)
  stopping.tell()
  assert int(group.get('stop')) == signal.SIGTERM


def test_a_stop_is_no_error_that_a_handler_of_errors_swallows():
  assert not issubclass(stopping.Stopped, Exception)


def test_the_library_installs_no_handler():
  code = (
    'import signal; before = signal.getsignal(2), signal.getsignal(15); '
    'import ensdistill, ensdistill.run, ensdistill.export, ensdistill.cli; '
    'assert before == (signal.getsignal(2), signal.getsignal(15))'
  )
  env = os.environ | {'PYTHONPATH': str(ROOT)}
  assert not subprocess.run([sys.executable, '-c', code], env=env).returncode


BUSY = """
import hashlib
from ensdistill import stopping
with stopping.listening():
  print('ready', flush=True)
  hashlib.pbkdf2_hmac('sha256', b'', b'', 10 ** 9)  # compiled code, for minutes
"""


def listening_process():
  process = subprocess.Popen(
    [sys.executable, '-c', BUSY],
    env=os.environ | {'PYTHONPATH': str(ROOT)},
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
    preexec_fn=default_interrupt,
  )
  assert process.stdout.readline() == 'ready\n'
  return process


def default_interrupt():
  """A test suite in the background ignores Ctrl-C, and its children would inherit that."""
  signal.signal(signal.SIGINT, signal.default_int_handler)


def test_a_second_interrupt_ends_the_process_at_once_even_in_compiled_code():
  with listening_process() as process:
    for _ in range(2):
      process.send_signal(signal.SIGINT)
      time.sleep(0.3)
    assert process.wait(10) == 130
    assert process.stderr.read().count('\n') == 2  # an empty line, after a progress bar


class Command:
  """A command in a folder, with its standard error in a file."""

  def __init__(self, folder, *arguments, module='ensdistill.main'):
    self.folder, self.log = folder, folder / f'log{len(list(folder.glob("log*")))}.txt'
    with open(self.log, 'w') as log:
      self.process = subprocess.Popen(
        [sys.executable, '-m', module, *arguments],
        cwd=folder,
        env=os.environ | {'PYTHONPATH': str(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=log,
        preexec_fn=default_interrupt,
      )

  def lines(self):
    return self.log.read_text().splitlines()

  def stop_when(self, happened, number):
    """Send the signal; return exit code, seconds that it took, and the last line."""
    until = time.monotonic() + PATIENCE
    while not happened():
      assert self.process.poll() is None and time.monotonic() < until, self.lines()
      time.sleep(0.01)
    began = time.monotonic()
    self.process.send_signal(number)
    code = self.process.wait(PATIENCE)
    assert 'Traceback' not in self.log.read_text(), self.lines()
    return code, time.monotonic() - began, self.lines()[-1]


def train(folder, *arguments):
  own = (f'--config={ROOT}/configs/kd_digits.py', '--config.data.name=npz:set.npz')
  return Command(folder, *own, *SMALL, '--workdir=runs/a', *arguments)


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  return data_set(tmp_path_factory.mktemp('stopped') / 'folder')


def said(command, text):
  return lambda: any(text in line for line in command.lines())


def test_a_run_is_saved_and_names_the_command_that_continues(folder):
  """At the start nothing is to be saved; in training the very step that was reached is saved."""
  early = train(folder, *LONG)
  code, _, line = early.stop_when(lambda: (folder / 'runs' / 'a' / 'lock').exists(), signal.SIGINT)
  assert code == 130 and 'stopped by SIGINT' in line, line
  running = train(folder, *LONG)
  code, seconds, line = running.stop_when(said(running, 'steps/s'), signal.SIGTERM)
  assert code == 143 and seconds < WITHIN, (code, seconds)
  assert 'ensdistill: stopped by SIGTERM: teacher is saved at step ' in line
  config = shlex.quote(f'--config={ROOT}/configs/kd_digits.py')  # a path may hold a space
  assert f'-m ensdistill.main {config}' in line
  (step,) = (int(path.stem) for path in folder.glob('runs/teachers/*/checkpoints/*/*.json'))
  assert f'step {step} of 200000' in line
  again = train(folder, *LONG)
  code, _, line = again.stop_when(said(again, f'continues at step {step}'), signal.SIGTERM)
  assert code == 143, line


@pytest.mark.slow
@pytest.mark.parametrize('number', stopping.SIGNALS)
@pytest.mark.parametrize('seconds', [0.3, 1, 2, 3, 4, 6, 8, 10, 12, 14])
def test_a_stop_at_any_moment_ends_with_the_same_results(folder, number, seconds, tmp_path):
  """Starting, compiling, training, evaluation, export, report."""
  own = data_set(tmp_path / 'own')
  command = train(own)
  time.sleep(seconds)
  command.process.send_signal(number)
  code = command.process.wait(PATIENCE)
  text = command.log.read_text()
  assert code in (0, 128 + number, -number), text  # before Python runs, the signal itself ends it
  assert 'Traceback' not in text or code in (130, -signal.SIGINT), text  # while it starts
  last = train(own)
  assert last.process.wait(PATIENCE) == 0, last.lines()
  undisturbed = folder / 'runs' / 'b'
  if not undisturbed.exists():
    whole = train(folder, '--workdir=runs/b')
    assert whole.process.wait(PATIENCE) == 0, whole.lines()

  def rows(path):
    found = json.loads((path / 'results.json').read_text())['rows']
    return [
      {k: v for k, v in row['metrics'].items() if not k.startswith('ms_per')} for row in found
    ]

  assert rows(own / 'runs' / 'a') == rows(undisturbed)
