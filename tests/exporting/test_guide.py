"""The guide to exports is run: its commands, and its examples of Python."""

import pathlib
import re

import jax
import pytest
import tiny

from ensdistill import cli, data, export

TEXT = (pathlib.Path(__file__).parents[2] / 'docs' / 'exports.md').read_text()


def blocks(kind):
  return re.findall(f'```{kind}\n(.*?)```', TEXT, re.DOTALL)


def test_the_examples_run(tmp_path, monkeypatch, capsys):
  pytest.importorskip('onnxruntime')
  monkeypatch.chdir(tmp_path)
  plan = tiny.plan(tiny.config(), data.load('digits', limit=60), tmp_path / 'runs' / 'kd_digits')
  export.save_all(plan, tiny.untrained(plan)[1])
  command, *_ = blocks('bash')
  for kind in ('onnx', 'stablehlo'):
    arguments = command.replace('--to=onnx', f'--to={kind}').split()[1:]
    assert cli.main(arguments) == 0
  assert 'runs/kd_digits/student.onnx: ' in capsys.readouterr().out
  in_memory, with_onnx, with_stablehlo = blocks('python')
  with jax.numpy_rank_promotion('allow'):
    given = {
      'student': export.load('runs/kd_digits/student'),
      'x_test': data.load('digits').test.x[:9],
    }
    exec(compile(in_memory, 'the guide', 'exec'), given)
    exec(compile(with_onnx, 'the guide', 'exec'), {})
    exec(compile(with_stablehlo, 'the guide', 'exec'), {})
  shown = capsys.readouterr().out
  assert '(5, 10)' in shown and "'probabilities'" in shown


def test_every_format_is_described():
  from ensdistill.exporting import files

  for kind, form in files.FORMATS.items():
    assert f'| `{kind}` | `student{form.suffix}' in TEXT
    assert not form.extra or f'ensdistill[{form.extra}]' in TEXT
