"""Progress is a bar on a terminal and a few plain lines in a log file."""

import io

import numpy as np
import pytest

from ensdistill.logs import progress, writers


class Terminal(io.StringIO):
  def isatty(self):
    return True


def advance(progress, clock, seconds_per_step, steps, total):
  for step in range(1, steps + 1):
    clock[0] += seconds_per_step
    progress.update(step, {'loss': np.float32(0.5), 'valid_acc': step / total})
  progress.close()


@pytest.fixture
def clock(monkeypatch):
  now = [0.0]
  monkeypatch.setattr(progress.time, 'monotonic', lambda: now[0])
  return now


def test_a_log_file_gets_twenty_lines_a_stage(tmp_path, clock):
  stream = io.StringIO()
  writer = writers.Writer(tmp_path, stream=stream)
  advance(writer.progress('student', 1000, examples_per_step=64), clock, 0.1, 1000, 1000)
  seen = stream.getvalue()
  assert '\r' not in seen and len(seen.splitlines()) == 20
  assert seen.splitlines()[9] == (
    'student: 500/1000 (50 %), 10 steps/s, 640 examples/s, 0:50 left, loss 0.5, valid_acc 0.5'
  )
  assert seen.splitlines()[-1] == (
    'student: 1000/1000 (100 %), 10 steps/s, 640 examples/s, took 1:40, loss 0.5, valid_acc 1'
  )


def test_a_slow_stage_speaks_every_thirty_seconds(tmp_path, clock):
  stream = io.StringIO()
  writer = writers.Writer(tmp_path, stream=stream)
  advance(writer.progress('s', 10_000, examples_per_step=1), clock, 10.0, 30, 10_000)
  seen = stream.getvalue().splitlines()
  assert [line.split()[1] for line in seen] == [f'{step}/10000' for step in range(3, 31, 3)]
  assert '0.1 steps/s' in seen[1] and '27:45:40 left' in seen[1]


def test_a_quick_stage_says_one_line(tmp_path, clock):
  stream = io.StringIO()
  writer = writers.Writer(tmp_path, stream=stream)
  advance(writer.progress('s', 500, examples_per_step=1), clock, 0.001, 500, 500)
  assert len(stream.getvalue().splitlines()) == 1


def test_a_stage_that_is_done_says_nothing(tmp_path):
  for stream in io.StringIO(), Terminal():
    writer = writers.Writer(tmp_path, stream=stream)
    writer.progress('s', 10, start=10, examples_per_step=1).close()
    assert stream.getvalue() == ''
    writer.line('next')
    assert stream.getvalue() == 'next\n'


def test_the_time_to_compile_is_not_in_the_rate(tmp_path, clock):
  stream = io.StringIO()
  progress = writers.Writer(tmp_path, stream=stream).progress('s', 100, examples_per_step=1)
  clock[0] += 20
  progress.update(1)
  clock[0] += 2
  progress.update(21)
  assert '10 steps/s' in stream.getvalue() and '0:08 left' in stream.getvalue()


def test_a_terminal_gets_a_bar_and_lines_above_it(tmp_path):
  stream = Terminal()
  writer = writers.Writer(tmp_path, stream=stream)
  progress = writer.progress('teacher', 10, start=4, examples_per_step=32)
  progress.update(7, {'loss': 0.125})
  writer.line('a warning')
  progress.update(10, {'loss': 0.0625})
  writer.close()
  seen = stream.getvalue()
  assert '\ra warning\n' in seen or '\r\x1b[Ka warning\n' in seen or ' \ra warning\n' in seen
  last = seen.rstrip('\n').split('\r')[-1]
  assert last.startswith('teacher 100%|') and '10/10' in last and 'loss 0.0625' in last
  assert 'steps/s' in last and 'examples/s' in last
  writer.line('after')
  assert stream.getvalue().endswith('\nafter\n')


def test_quiet_writes_files_and_no_line(tmp_path, capfd, reader):
  with writers.Writer(tmp_path, quiet=True) as writer:
    progress = writer.progress('s', 2, examples_per_step=1)
    progress.update(1, {'loss': 1.0})
    writer.line('unseen')
    writer.scalars(1, {'loss': 1.0}, stage='s')
  assert capfd.readouterr() == ('', '') and len(reader.lines(tmp_path)) == 1
