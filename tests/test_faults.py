"""Injected faults: the operations of a process, the counts, and a few cases of every row."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

from benchmarks import faults
from benchmarks.injected import cases, operations

ROOT = pathlib.Path(__file__).parent.parent
DOCUMENT = ROOT / 'docs' / 'reliability.md'
WRITE = """
import pathlib, sys
from benchmarks.injected import operations
from ensdistill.storage import safe
folder, what, at = pathlib.Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
inject = {
  'count': lambda: operations.counting(folder),
  'kill': lambda: operations.killing(folder, at),
  'fail': lambda: operations.failing(folder, at, 28),
}[what]()
safe.make_folder(folder / 'runs')
inject()
try:
  safe.write_atomic(folder / 'runs' / 'a.txt', 'content')
except OSError as error:
  sys.exit(str(error.strerror))
"""


def write(folder, what, at=0):
  """Write a file atomically in a process with a fault; return its exit code and last line."""
  folder.mkdir(exist_ok=True)
  done = subprocess.run(
    [sys.executable, '-c', WRITE, str(folder), what, str(at)],
    cwd=ROOT,
    capture_output=True,
    text=True,
  )
  return done.returncode, done.stderr.strip()


def test_every_operation_is_counted_and_can_fail_or_kill(tmp_path):
  code, said = write(tmp_path, 'count')
  assert code == 0, said
  noted = [line.split()[0] for line in operations.noted(tmp_path)]
  assert noted == ['os.mkdir'] * noted.count('os.mkdir') + [
    'open',
    'write',
    'os.fsync',
    'os.rename',
  ]
  last = len(noted) - 1
  for number, left in ((last, []), (last - 2, [])):  # the name at its end; half of the content
    folder = tmp_path / f'fail{number}'
    code, said = write(folder, 'fail', number)
    assert (code, said) == (1, 'cannot be written: No space left on device')
    assert os.listdir(folder / 'runs') == left
  folder = tmp_path / 'kill'
  assert write(folder, 'kill', last - 2) == (-9, '')
  (part,) = (folder / 'runs').iterdir()
  assert part.suffix == '.part' and part.read_text() == 'con'


def test_any_beginning_of_a_row_is_spread_over_all_of_it():
  for size in (1, 2, 3, 10, 365, 1300):
    found = [faults.scattered(index, size) for index in range(size)]
    assert sorted(found) == list(range(size))
    if size > 10:
      assert max(found[:10]) > 0.8 * size and min(found[1:10]) < 0.2 * size


def test_outcomes_are_counted():
  state = {'kill': faults.blank(3)}
  found = [cases.Case('identical', True, seconds=1.5), cases.Case('lost', False, 'open a')]
  faults.add(state['kill'], found, 7)
  assert state['kill']['outcomes'] == {'identical': 1, 'lost': 1}
  assert state['kill']['wrong'] == 1 and state['kill']['defects'] == ['7: lost: open a']
  outcomes = {'identical': 1, 'lost': 1}
  assert state['kill']['failed'] == {'7': {'outcomes': outcomes, 'wrong': 1, 'seconds': [1.5]}}
  row = faults.table(state).splitlines()[-1]
  assert '| 2 | 3 | 1 | 1 identical; 1 lost; at most 1.5 s to the end |' in row


def test_a_case_that_was_wrong_can_be_run_again():
  state = faults.blank(3)
  faults.add(state, [cases.Case('identical', True)], 0)
  before = json.dumps(state)
  faults.add(state, [cases.Case('lost', False, 'open a')], 1)
  faults.forget(state, '1')
  assert json.dumps(state) == before


def test_a_slice_with_wrong_cases_is_counted_once_when_it_runs_again():
  state = faults.blank(30)
  faults.add(state, [cases.Case('identical', True, seconds=1.5)] * 3, 0)
  before = json.dumps(state)
  wrong = [cases.Case('lost', False, 'a'), cases.Case('refused', False, 'b')]
  right = cases.Case('identical', True, seconds=2.5)
  faults.add(state, [*wrong, right], 10)
  state = json.loads(json.dumps(state))
  faults.forget(state, '10')
  assert json.dumps(state) == before
  faults.add(state, [right] * 3, 10)
  assert (state['cases'], state['wrong'], state['outcomes']) == (6, 0, {'identical': 6})
  assert not state['failed'] and not state['defects']


def test_the_document_shows_the_table():
  state = json.loads(faults.STATE.read_text())
  assert faults.table(state) in DOCUMENT.read_text()


@pytest.mark.slow
def test_two_cases_of_every_row(tmp_path):
  state = tmp_path / 'state.json'
  command = [sys.executable, '-m', 'benchmarks.faults', '--most=2', f'--state={state}']
  done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
  assert done.returncode == 0, done.stdout + done.stderr
  found = json.loads(state.read_text())
  del found[faults.MADE_BY]
  assert found.keys() >= faults.rows().keys() - {'fuzz'}
  assert all(row['cases'] >= 2 and row['wrong'] == 0 for row in found.values())
