"""The command sweep: wrong usage is one line before anything runs; the jobs of a command line."""

import errno
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from ensdistill.commands import sweep
from ensdistill.sweep import plan

ROOT = pathlib.Path(__file__).parent.parent.parent
QUICK = (
  '--config.network.name=mlp',
  '--config.network.hidden=(8,)',
  '--config.teacher.steps=6',
  '--config.student.steps=6',
  '--config.teacher.members=2',
  '--config.evaluate.shift=none',
  '--config.evaluate.ood=none',
  '--config.scores=2',
)


def command(*arguments, capsys):
  """Run the command in this process; return exit code, lines of standard error, standard output."""
  code = 0
  try:
    sweep.main(arguments)
  except SystemExit as error:
    code = error.code
  said = capsys.readouterr()
  return code, said.err.strip().splitlines(), said.out


WRONG = [
  ((), 'name METHODS and DATA'),
  (('kdd', 'digits'), "did you mean 'kd'?"),
  (('kd', 'digitss'), "did you mean 'digits'?"),
  (('kd', 'digits:smal'), "did you mean 'small'?"),
  (('kd', 'digits:common'), 'has no variant'),
  (('end2', 'diabetes'), 'end2 is not for diabetes, which is regression'),
  (('kd,kd', 'digits'), "'kd' is named twice"),
  (('kd,', 'digits'), 'an empty method'),
  (('kd', 'digits', '--teachers=0'), 'must be a whole number from 1'),
  (('kd', 'digits', '--seed=2'), "did you mean '--seeds'?"),
  (('kd', 'digits', '--baseline=hydra'), '--baseline=hydra is not in this sweep: kd'),
  (('kd', 'digits', '--set', 'perturb.etta=1'), 'kd (perturb.etta=1) on digits: unknown setting'),
  (('kd', 'digits', '--set', 'student.steps=few'), 'must be a whole number'),
  (('kd', 'digits', '--set', 'perturb.eta=1,2'), 'kd (perturb.eta=1.0) on digits'),
  (('kd', 'digits', '--config.seeds=2'), 'use --seeds=N'),
  (('kd', 'digits', '--teachers=2', '--config.teacher.outputs=a.npz'), 'a.npz is one ensemble'),
  (('kd', 'digits', '--config.data.name=npz:nothing.npz'), 'nothing.npz'),
  (('kd', 'digits', '--config.teacher.batch_size=5000'), 'larger than the training set'),
  (('kd,be_kd', 'digits', '--config.student.optimizer.factor_rate=.5'), 'has no factors'),
]


@pytest.mark.parametrize('arguments,message', WRONG)
def test_wrong_usage_is_one_line_and_exit_code_2(arguments, message, tmp_path, capsys, monkeypatch):
  monkeypatch.chdir(tmp_path)
  code, lines, _ = command(*arguments, capsys=capsys)
  assert (code, len(lines)) == (2, 1), lines
  assert lines[0].startswith('ensdistill: ') and message in lines[0]
  assert not list(tmp_path.rglob('*.json'))


def test_a_full_disk_is_one_line(tmp_path, capsys, monkeypatch):
  def full(*_, **__):
    raise OSError(errno.ENOSPC, 'cannot be written: No space left on device', 'queue/a.json')

  monkeypatch.setattr(plan.Sweep, 'run', full)
  code, lines, _ = command('kd', 'digits', *QUICK, f'--out={tmp_path}', capsys=capsys)
  assert code == 1
  assert lines == ['ensdistill: queue/a.json cannot be written: No space left on device']


def test_the_jobs_of_a_command(tmp_path, capsys, monkeypatch):
  monkeypatch.chdir(tmp_path)
  arguments = ['kd,hydra', 'digits:small', '--teachers=2', '--seeds=2', '--first-seed=5']
  varied = ['--set', 'hydra:network.hidden=(8,8),(16,)', '--config.network.name=mlp']
  code, _, text = command(*arguments, *varied, '--dry-run', '--out=here', capsys=capsys)
  lines = text.splitlines()
  assert code == 0 and lines[-1] == '12 jobs' and len(lines) == 13
  assert lines[2] == (
    'left    ensdistill train hydra_digits:small '
    f'--workdir={pathlib.Path("here", "runs")}/{lines[2].split("/runs/")[1].split()[0]} '
    '--config.teacher.dir=here/teachers --config.network.name=mlp '
    "'--config.network.hidden=(16,)' --config.seed=5"
  )
  assert '--config.seed=6 --config.student.seed=1' in lines[-2]
  _, _, text = command(*arguments, *varied, '--status', '--out=here', capsys=capsys)
  assert text.startswith('here: 12 jobs: 12 left\n')
  assert not (tmp_path / 'here' / 'results').exists()


def started(folder, *arguments):
  """Start the command in a process of its own."""
  line = [sys.executable, '-m', 'ensdistill', 'sweep', *arguments, f'--out={folder}', *QUICK]
  environment = os.environ | {'PYTHONPATH': str(ROOT)}
  return subprocess.Popen(line, env=environment, stdout=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_a_killed_and_moved_sweep_equals_an_uninterrupted_one(tmp_path, capsys):
  kinds = ('kd,be_kd', 'digits', '--teachers=2', '--first-seed=3')
  unbroken = tmp_path / 'unbroken'
  with started(unbroken, *kinds) as whole:
    text, _ = whole.communicate()
  assert whole.returncode == 0 and '4 jobs: 4 done' in text
  moved = tmp_path / 'first'
  for number, when in enumerate((signal.SIGKILL, signal.SIGTERM)):
    with started(moved, *kinds) as parts:
      for line in parts.stdout:
        if line.startswith('starts') and number:
          break
        if line.startswith('['):
          break
      time.sleep(1)
      parts.send_signal(when)
      parts.communicate()
    assert parts.returncode == (143 if number else -9)
    end = time.monotonic() + 600
    while time.monotonic() < end:  # the run of a killed sweep ends by itself
      code, _, status = command(*kinds, *QUICK, f'--out={moved}', '--status', capsys=capsys)
      if 'running' not in status:
        break
      time.sleep(0.5)
    moved = moved.rename(tmp_path / f'moved{number}')
  with started(moved, *kinds) as rest:
    text, _ = rest.communicate()
  assert rest.returncode == 0 and '4 jobs: 4 done' in text
  names = {path.name for path in (moved / 'results').iterdir()}
  assert names == {path.name for path in (unbroken / 'results').iterdir()}
  for name in names:
    one, other = (json.loads((f / 'results' / name).read_text()) for f in (unbroken, moved))
    for row, same in zip(one['rows'], other['rows'], strict=True):
      timed = {k for k in row['metrics'] if k.startswith('ms_')}
      assert {k: v for k, v in row['metrics'].items() if k not in timed} == {
        k: v for k, v in same['metrics'].items() if k not in timed
      }
  assert len(list((moved / 'teachers').iterdir())) == 2  # trained once each
  changed = (*kinds, *QUICK, f'--out={moved}', '--config.student.batch_size=32')
  code, lines, _ = command(*changed, capsys=capsys)
  assert code == 2 and 'was made with other settings (student.batch_size: 64 -> 32)' in lines[0]


@pytest.mark.slow
def test_smoke_estimates_and_changes_no_result(tmp_path, capsys):
  with started(tmp_path, 'kd,hydra', 'digits', '--teachers=2', '--smoke') as smoke:
    text, _ = smoke.communicate()
  assert smoke.returncode == 0 and '4 jobs: 4 left; about' in text
  costs = json.loads((tmp_path / 'smoke' / 'costs.json').read_text())
  assert set(costs) == {'kd_digits', 'hydra_digits'}
  assert all(0 < cost['own'] < 120 for cost in costs.values())
  assert 0 < max(cost['teacher'] for cost in costs.values()) < 120  # the other one found it
  assert not (tmp_path / 'results').exists()
