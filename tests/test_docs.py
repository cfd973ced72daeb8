"""The guide to the library: its examples are short, and they run from top to bottom."""

import pathlib
import re
import warnings

import jax
import numpy as np
import pytest
import tiny

from ensdistill import cli, data, export

ROOT = pathlib.Path(__file__).parent.parent
PAGE = pathlib.Path(__file__).parent.parent / 'docs' / 'library.md'
BLOCKS = re.findall(r'```python\n(.*?)```', PAGE.read_text(), re.DOTALL)


@pytest.mark.parametrize('block', BLOCKS)
def test_examples_are_short_and_parse(block):
  compile(block, str(PAGE), 'exec')
  assert len(block.strip().splitlines()) < 15


@pytest.mark.slow
def test_the_examples_run(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  names: dict = {}
  with warnings.catch_warnings(), jax.numpy_rank_promotion('allow'):
    for block in BLOCKS:
      exec(compile(block, str(PAGE), 'exec'), names)
  assert [row['name'] for row in names['results']['rows']][-2:] == ['ensemble-4', 'student']
  assert (names['p'].probs.argmax(1) >= 0).all()
  assert names['of_forest'].score(names['x_wine'], names['y_wine']) > 0.9
  for file in ('my_student/weights.safetensors', 'report/report.html'):
    assert (tmp_path / file).exists()


def test_the_student_of_the_readme(tmp_path, monkeypatch, capsys):
  """Its example and its commands run, in ten lines."""
  section = (ROOT / 'README.md').read_text().partition('## Use the student')[2]
  (example, *_), (commands, *_) = (
    re.findall(f'```{kind}\n(.*?)```', section, re.DOTALL) for kind in ('python', 'bash')
  )
  assert len([*filter(None, (example + commands).splitlines())]) <= 10
  monkeypatch.chdir(tmp_path)
  digits = data.load('digits', limit=60)
  config = tiny.config(data__name='digits', data__limit=60)
  plan = tiny.plan(config, digits, pathlib.Path('runs/kd_digits'))
  export.save_all(plan, tiny.untrained(plan)[1])
  x = digits.test.x
  np.save('images.npy', x)
  names: dict = {'x': x}
  exec(compile(example, 'README.md', 'exec'), names)
  assert names['soft'].shape == names['sets'].shape == (60, 10) and names['unsure'].shape == (60,)
  assert '## Calibration' in capsys.readouterr().out
  for line in commands.splitlines():
    program, *arguments = line.split()
    assert program == 'ensdistill' and cli.main(arguments) == 0
  lines = pathlib.Path('predictions.csv').read_text().splitlines()
  assert len(lines) == 61 and lines[0].endswith('set,abstain,error')
  assert export.load('runs/kd_digits/student-int8').spec['weights'] == {'form': 'int8'}
