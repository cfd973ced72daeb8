"""Processes that die or are stuck are named, and end all."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest
import several
from several import Service

from ensdistill.processes import ending, watching
from ensdistill.processes.group import Group, State

STUCK = """
import time
from ensdistill import processes
from ensdistill.processes import watching
watching.watchdog(0.02)
for _ in range(5):
  time.sleep(0.5)
  processes.beat()
print('progress', flush=True)
time.sleep(60)
"""


def test_a_watchdog_prints_all_stacks_and_ends_a_stuck_process():
  done = subprocess.run([sys.executable, '-c', STUCK], capture_output=True, text=True, timeout=60)
  assert done.returncode == 1 and done.stdout == 'progress\n'
  assert 'most recent call first' in done.stderr
  assert done.stderr.splitlines()[-1].startswith('ensdistill: no progress for 0.02 minutes')


def test_a_watchdog_rests_after_the_run(capfd):
  codes = []
  watching.watchdog(0.001, end=codes.append)
  watching.rest()
  time.sleep(0.3)
  assert not codes and not capfd.readouterr().err


def test_a_watchdog_ends_all_processes_of_a_run(monkeypatch):
  group, ended = Group(Service(), 1, 2, heartbeat=10.0), threading.Event()
  how = []

  def end(*arguments):
    how.append(arguments)
    ended.set()

  monkeypatch.setattr(State, 'group', group)
  monkeypatch.setattr(ending, 'end', end)
  monkeypatch.setattr(watching.faulthandler, 'dump_traceback', lambda all_threads: None)
  watching.watchdog(0.001, end=lambda code: None)
  assert ended.wait(30)
  watching.rest()
  assert how[0][1:3] == (1, 1)
  assert how[0][3].startswith('process 1 of 2: no progress for 0.001 minutes, the stacks are above')


def test_a_silent_process_is_dead_after_ten_looks(monkeypatch):
  group = Group(Service(), 0, 3, heartbeat=10.0)
  group.hellos = [{'host': f'h{i}', 'pid': 100 + i} for i in range(3)]
  ended, signs = [], {}
  monkeypatch.setattr(ending, 'end', lambda *how, dead: ended.append((*how, dead)))
  for look in range(40):
    group.set('alive/1', str(look), overwrite=True)
    group.set('alive/2', str(min(look, 15)), overwrite=True)
    watching._find_dead(group, signs, looks=10)
    if ended:
      break
  assert look == 25
  ((_, number, code, line, dead),) = ended
  assert (number, code, dead) == (2, 1, True)
  assert line.startswith('process 2 of 3 on h2 (pid 102) died: no sign of life for 10 seconds')


def test_a_process_that_has_not_begun_to_watch_has_more_time(monkeypatch):
  group, ended = Group(Service(), 0, 2, heartbeat=10.0), []
  monkeypatch.setattr(ending, 'end', lambda *how, dead: ended.append((*how, dead)))
  signs = {}
  for _ in range(29):
    watching._find_dead(group, signs, looks=10)
  assert not ended
  watching._find_dead(group, signs, looks=10)
  assert ended


@pytest.mark.parametrize('second', [False, True])
def test_the_first_to_end_decides_what_all_say(monkeypatch, capsys, second):
  group = Group(Service(), 1, 2, heartbeat=10.0)
  codes = []
  monkeypatch.setattr(ending.os, '_exit', codes.append)
  if second:
    group.set('ended', '{"number": 0, "code": 2, "line": "process 0: earlier", "dead": false}')
  ending.end(group, 1, 3, 'process 1: later')
  assert codes == [2 if second else 3]
  line = 'process 0: earlier' if second else 'process 1: later'
  assert capsys.readouterr().err == f'ensdistill: {line}\n'
  assert 'ensdistill/seen/1' in group.client.keys


class Gone(Service):
  """A service that has ended: a call waits until the process has."""

  def __init__(self):
    super().__init__()
    self.ended = threading.Event()

  def key_value_set(self, key, value, allow_overwrite=False):
    assert self.ended.wait(30), 'the process waits for ever'


@pytest.mark.parametrize('how', ['end', 'follow'])
def test_a_process_ends_though_the_service_has_ended_before(monkeypatch, how):
  group, codes = Group(Gone(), 1, 2, heartbeat=10.0), []

  def end(code):
    codes.append(code)
    group.client.ended.set()

  monkeypatch.setattr(ending, '_ACKNOWLEDGED', 0.05)
  monkeypatch.setattr(ending.os, '_exit', end)
  if how == 'end':
    ending.end(group, 1, 2, 'process 1: wrong')
  else:
    ending.follow(group, {'number': 1, 'code': 2, 'line': 'process 1: wrong', 'dead': False})
  assert set(codes) == {2}


@pytest.mark.parametrize('dead', [False, True])
def test_the_first_process_ends_after_all_others_that_live(monkeypatch, dead):
  group, ended = Group(Service(), 0, 2, heartbeat=10.0), []

  def sleep(seconds):
    group.set('seen/1', '')  # by the other process, meanwhile
    ended.append('waited')

  monkeypatch.setattr(ending.time, 'sleep', sleep)
  monkeypatch.setattr(ending.os, '_exit', ended.append)
  ending.end(group, 1, 2, 'process 1: wrong', dead=dead)
  assert ended == ([2] if dead else ['waited', 2])


TERMINATED = """
import ctypes, sys
from several import Service
from ensdistill.processes import watching
from ensdistill.processes.group import Group, State

def get(key):
  assert case != 'gone'

assert watching._handle_terminate()
watching._GRACE = 0.2
case, number = sys.argv[1], int(sys.argv[2])
if case != 'joining':
  group = State.group = Group(Service(), number, 3, heartbeat=0.01)
  group.get = get
library = ctypes.CDLL('libstdc++.so.6')
if case == 'other':
  library._ZSt20__throw_length_errorPKc(b'too long')
library._ZSt16__throw_bad_castv()
"""


@pytest.mark.parametrize(
  ('case', 'number', 'said'),
  [
    ('gone', 1, 'ensdistill: process 0 of 3 died: its coordination service is gone; '),
    ('lives', 1, 'ensdistill: process 1 of 3: another process died'),
    ('lives', 0, 'ensdistill: process 0 of 3: another process died'),
    ('joining', 1, 'ensdistill: the other processes ended while this one joined them'),
    ('other', 1, 'std::length_error'),
  ],
)
def test_only_the_callback_of_a_death_is_taken_for_one(case, number, said):
  command = [sys.executable, '-c', TERMINATED, case, str(number)]
  environment = os.environ | {'PYTHONPATH': os.path.dirname(several.__file__)}
  done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
  assert said in done.stderr and 'died: its' not in done.stderr.replace(said, '')
  assert done.returncode == (-signal.SIGABRT if case == 'other' else 1)
