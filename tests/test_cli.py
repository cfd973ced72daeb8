"""The command `ensdistill`: its commands, their mistakes, and a quick start."""

import contextlib
import os
import pathlib
import subprocess
import sys

import pytest

import ensdistill
from ensdistill import cli
from ensdistill.report import results

ROOT = pathlib.Path(__file__).parent.parent


def test_help_names_every_command(capsys):
  for arguments in ([], ['--help'], ['-h'], ['help']):
    assert cli.main(arguments) == 0
    out = capsys.readouterr().out
    assert all(f'\n  {name} ' in out for name in cli.COMMANDS)
    assert max(map(len, out.splitlines())) <= 80


def test_the_version(capsys):
  cli.main(['--version'])
  assert capsys.readouterr().out == f'ensdistill {ensdistill.__version__}\n'


@pytest.mark.parametrize('name', cli.COMMANDS)
def test_every_command_has_help(name, capsys):
  try:
    assert not cli.main([name, '--help'])
  except SystemExit as exit:
    assert exit.code == 0
  assert len(capsys.readouterr().out) > 100


@pytest.mark.parametrize(
  'arguments, message',
  [
    (['trian', 'kd_digits'], "unknown command 'trian': did you mean 'train'? `ensdistill --help`"),
    (['zzz'], "unknown command 'zzz'. `ensdistill --help` lists them."),
    (['train', 'kd_digts'], "unknown recipe 'kd_digts': did you mean 'kd_digits'?"),
    (['train', 'kd_digits', '--config.teacher.members=three'], 'must be a whole number'),
    (['config', 'kd_digits:smal'], "did you mean 'small'?"),
    (['list', '--papes'], "unknown argument '--papes': did you mean '--papers'? (--help lists"),
    (['data', 'digits', '--lmit=3'], "did you mean '--limit'?"),
    (['evaluate'], '--student'),
    (['evaluate', '--studnt=/x'], "unknown argument '--studnt': did you mean '--student'?"),
    (['config', 'kd_digits', '--al'], "did you mean '--all'? `ensdistill config --help`"),
    (['data', 'digits', '--limit=20', '--out=/proc/x.png'], 'cannot write into /proc ('),
    (['evaluate', '--student=x', 'surplus'], "unknown argument 'surplus'"),
    (['evaluate', '--student=x', '--odo=a'], "did you mean '--ood'?"),
    (['report', 'x', '--ot=a'], "did you mean '--out'?"),
  ],
)
def test_mistakes_are_one_line_and_exit_code_2(arguments, message, capsys):
  with pytest.raises(SystemExit) as exit:
    cli.main(arguments)
  err = capsys.readouterr().err
  assert exit.value.code == 2 and err.count('\n') == 1
  assert err.startswith('ensdistill: ') and message in err


@pytest.mark.parametrize('name', ['train', 'data', 'evaluate', 'report'])
def test_help_names_the_command_as_it_was_called(name, capsys):
  with contextlib.suppress(SystemExit):
    cli.main([name, '--help'])
  assert f': ensdistill {name} ' in capsys.readouterr().out.splitlines()[0]


def test_help_and_the_list_do_not_import_jax():
  code = (
    'import sys; from ensdistill import cli; '
    '[cli.main(a) for a in ([], ["train", "--help"], ["config", "--help"], ["list"])]; '
    'sys.exit("jax" in sys.modules)'
  )
  env = os.environ | {'PYTHONPATH': str(ROOT)}
  assert not subprocess.run([sys.executable, '-c', code], env=env, capture_output=True).returncode


def test_python_m_ensdistill_is_the_same(tmp_path):
  done = subprocess.run(
    [sys.executable, '-m', 'ensdistill', 'list'],
    cwd=tmp_path,
    env=os.environ | {'PYTHONPATH': str(ROOT)},
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0 and 'hydra_cifar100:small' in done.stdout, done.stderr


@pytest.mark.parametrize(
  'program, command',
  [
    ('/x/ensdistill/main.py', 'python -m ensdistill.main train kd_digits'),
    ('/x/ensdistill/__main__.py', 'ensdistill train kd_digits'),
    ('/x/bin/ensdistill', 'ensdistill train kd_digits'),
    ('/x/bin/pytest', None),
  ],
)
def test_results_keep_the_command(program, command, monkeypatch):
  monkeypatch.setattr(sys, 'argv', [program, 'train', 'kd_digits'])
  assert results.command() == command


def test_nothing_changes_the_search_path_of_modules():
  for folder in ('ensdistill', 'configs', 'experiments', 'benchmarks'):
    for path in (ROOT / folder).rglob('*.py'):
      assert 'sys.path' not in path.read_text(), path
