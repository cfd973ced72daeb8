"""The command that trains: one clear line and an exit code for every wrong input."""

import json
import os
import pathlib
import shlex
import subprocess
import sys

import numpy as np
import pytest

from ensdistill import main, processes, run, stopping
from ensdistill.data import DataError

ROOT = pathlib.Path(__file__).parent.parent
QUICK = (
  '--config.network.name=mlp',
  '--config.network.hidden=(8,)',
  '--config.teacher.steps=4',
  '--config.student.steps=4',
  '--config.teacher.members=2',
  '--config.evaluate.shift=none',
  '--config.scores=1',
  '--config.teacher.batch_size=16',
  '--config.student.batch_size=16',
)


def command(*arguments, folder, config=f'{ROOT}/configs/kd_digits.py'):
  """Run the command in a folder; return exit code, lines of standard error, standard output."""
  done = subprocess.run(
    [sys.executable, '-m', 'ensdistill.main', f'--config={config}', *arguments],
    cwd=folder,
    env=os.environ | {'PYTHONPATH': str(ROOT)},
    capture_output=True,
    text=True,
    timeout=600,
  )
  return done.returncode, done.stderr.strip().splitlines(), done.stdout


def archive(folder, **changes):
  """Write a small valid npz data set, with changes."""
  random = np.random.default_rng(0)
  arrays = {
    'x_train': random.random((60, 8, 8, 1)).astype(np.float32),
    'y_train': np.arange(60) % 3,
    'x_test': random.random((30, 8, 8, 1)).astype(np.float32),
    'y_test': np.arange(30) % 3,
  }
  path = folder / 'set.npz'
  np.savez(path, **arrays | changes)
  return f'--config.data.name=npz:{path}'


def test_a_signal_that_ends_the_reading_of_images_ends_a_shared_run_as_a_stop(monkeypatch, capsys):
  def prepare(*arguments):
    raise DataError('a process that decodes images has ended')

  monkeypatch.setattr(run, 'prepare', prepare)
  monkeypatch.setattr(processes, 'shared', lambda: True)
  monkeypatch.setattr(stopping, 'asked', lambda: 15)
  with pytest.raises(SystemExit) as end:
    main.main(['--config=kd_digits'])
  assert end.value.code == 143
  assert 'stopped by SIGTERM: the last checkpoint is kept' in capsys.readouterr().err


def nan_image():
  x = np.random.default_rng(0).random((60, 8, 8, 1)).astype(np.float32)
  x[17, 2, 3] = np.nan
  return x


USAGE = [
  (('--config.student.kind=multihaed',), "did you mean 'multi_head'?"),
  (('--config.teacher.steps=many',), "'many'"),
  (('--config.teacher.member=3',), 'members'),
  (('--config.student.epochs=3',), 'set exactly one'),
  (('--config.data.name=digitss',), "did you mean 'digits'"),
  (('--config.teacher.batch_size=5000',), 'larger than the training set (600 examples)'),
  (('--config.perturb.name=tdiv_sdiv',), "perturb.name='tdiv'"),
  (('surplus',), 'surplus'),
  (
    ('--config.student.optimizer.rate=nan',),
    'optimizer.rate=nan must be a finite number in (0, 1e9]',
  ),
  (('--config.seed=-1',), 'seed=-1 must be a whole number in [0, 4,294,967,295]'),
]


@pytest.mark.parametrize('arguments,message', USAGE)
def test_wrong_usage_is_one_line_and_exit_code_2(arguments, message, tmp_path):
  code, lines, _ = command(*arguments, folder=tmp_path)
  assert (code, len(lines)) == (2, 1), lines
  assert lines[0].startswith('ensdistill: ') and message in lines[0], lines
  assert not list(tmp_path.iterdir())  # a refused configuration claims no folder


def test_a_config_file_or_variant_that_is_not_there(tmp_path):
  code, lines, _ = command(folder=tmp_path, config=f'{ROOT}/configs/kd_digit.py')
  assert code == 2 and len(lines) == 1 and 'kd_digit.py' in lines[0], lines
  code, lines, _ = command(folder=tmp_path, config=f'{ROOT}/configs/kd_digits.py:smal')
  assert code == 2 and "did you mean 'small'?" in lines[0], lines


DATA = [
  (dict(x_train=nan_image()), ('x_train', '17')),
  (dict(y_test=np.arange(30) % 3 + 5), ('y_test[0]',)),
  (dict(y_train=np.arange(59) % 3), ('59', '60')),
  (dict(y_train=np.arange(60) % 2 * 2), ('class 1 of 3',)),
]


@pytest.mark.parametrize('changes,parts', DATA)
def test_bad_data_is_one_line_and_exit_code_1(changes, parts, tmp_path):
  name = archive(tmp_path, **changes)
  code, lines, _ = command(name, folder=tmp_path)
  assert (code, len(lines)) == (1, 1), lines
  assert all(part in lines[0] for part in ('set.npz', *parts)), lines


def test_folders_that_are_missing_or_cannot_be_written(tmp_path):
  code, lines, _ = command('--config.data.name=npz:/nowhere/set.npz', folder=tmp_path)
  assert code == 1 and '/nowhere/set.npz' in lines[0], lines
  code, lines, _ = command(
    '--config.data.name=cifar10', f'--config.data.dir={tmp_path}', folder=tmp_path
  )
  assert code == 1 and str(tmp_path) in lines[0] and 'ensdistill[tf]' in lines[0], lines
  (tmp_path / 'file').write_text('')
  code, lines, _ = command(f'--workdir={tmp_path}/file/run', folder=tmp_path)
  assert code == 2 and str(tmp_path / 'file') in lines[0] and len(lines) == 1, lines


def test_a_run_from_the_command_line_and_its_repetition(tmp_path):
  """A run trains and reports; finished stages are skipped, other settings refused."""
  name = archive(tmp_path)
  code, lines, out = command(name, *QUICK, '--workdir=runs/a', folder=tmp_path)
  assert code == 0, lines
  assert 'ensemble-2' in out and 'student' in out
  folder = tmp_path / 'runs' / 'a'
  results = json.loads((folder / 'results.json').read_text())
  assert [row['name'] for row in results['rows']] == ['member', 'ensemble-2', 'student']
  for part in ('config.json', 'metrics.jsonl', 'tb', 'report.html', 'student/weights.safetensors'):
    assert (folder / part).exists(), part
  config = shlex.quote(f'--config={ROOT}/configs/kd_digits.py')
  assert f'ensdistill.main {config} --config.data.name=' in results['command']
  (tmp_path / 'runs' / 'damaged').mkdir()
  (tmp_path / 'runs' / 'damaged' / 'config.json').write_text('{')
  code, lines, _ = command(name, *QUICK, '--workdir=runs/damaged', folder=tmp_path)
  assert code == 2 and 'runs/damaged/config.json is damaged' in lines[0] and len(lines) == 1, lines
  code, _, out = command(name, *QUICK, '--workdir=runs/a', folder=tmp_path, config='kd_digits')
  assert code == 0 and 'already finished (teacher, student, evaluation, report)' in out
  code, lines, _ = command(
    name, *QUICK, '--workdir=runs/a', '--config.student.steps=5', folder=tmp_path
  )
  assert code == 2 and 'student.steps: 4 -> 5' in lines[0], lines
  code, lines, _ = command(
    name, *QUICK, '--workdir=runs/b', '--config.teacher.members=3', folder=tmp_path
  )
  assert code == 0 and any('2 of 3 members found' in line for line in lines), lines


def test_main_imports_nothing_heavy():
  """The help must come at once."""
  code = (
    'import sys, ensdistill.main; ensdistill.main.main(["--help"]); print("jax" in sys.modules)'
  )
  done = subprocess.run(
    [sys.executable, '-c', code],
    env=os.environ | {'PYTHONPATH': str(ROOT)},
    capture_output=True,
    text=True,
  )
  assert '--config' in done.stdout and done.stdout.endswith('\nFalse\n')
  assert run.UsageError.__mro__[1] is ValueError
