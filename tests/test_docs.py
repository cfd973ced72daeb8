"""The examples of the guides to the library and to teachers are short, and they run."""

import doctest
import fnmatch
import importlib
import json
import pathlib
import re
import runpy
import subprocess
import sys
import warnings

import jax
import numpy as np
import pytest
import tiny

from ensdistill import cli, data, export
from ensdistill.config import recipes

ROOT = pathlib.Path(__file__).parent.parent
PAGE = ROOT / 'docs' / 'library.md'


def blocks(text, kind='python'):
  return re.findall(f'```{kind}\n(.*?)```', text, re.DOTALL)


BLOCKS = blocks(PAGE.read_text())
TEACHERS = (ROOT / 'docs' / 'teachers.md').read_text()
FOREST, TORCH, PREPROCESS, FUNCTION = blocks(TEACHERS)


PAGES = [
  ROOT / 'README.md',
  *(p for p in sorted((ROOT / 'docs').rglob('*.md')) if not {'_build', '_generated'} & {*p.parts}),
]


MODULES = (
  'metrics.scoring', 'metrics.calibration', 'metrics.diversity', 'metrics.uncertainty',
  'predictive.classification', 'objectives.matching',
)  # fmt: skip


@pytest.mark.parametrize('name', MODULES)
def test_examples_of_docstrings_run(name):
  module = importlib.import_module(f'ensdistill.{name}')
  found = doctest.testmod(module, extraglobs={'np': np, 'jnp': jax.numpy})
  assert found.attempted and not found.failed


@pytest.mark.parametrize('page', PAGES, ids=lambda path: path.name)
def test_recipes_of_commands_exist(page):
  pattern = r'^ensdistill train ([a-z0-9_:]+)(?![\w.:])(?!.*--import)'
  for recipe in re.findall(pattern, page.read_text(), re.MULTILINE):
    assert recipes.named(*recipe.split(':')), recipe


def test_every_page_is_in_a_table_of_contents():
  listed = re.findall(
    r'```{toctree}\n(.*?)```', (ROOT / 'docs' / 'index.md').read_text(), re.DOTALL
  )
  names = [line for part in listed for line in part.splitlines() if line and line[0] != ':']
  own = [p for p in PAGES[1:] if p.name not in ('README.md', 'index.md')]
  own += sorted((ROOT / 'docs').glob('*.ipynb')) + sorted(
    (ROOT / 'docs' / 'notebooks').glob('*.ipynb')
  )
  for page in own:
    found = str(page.relative_to(ROOT / 'docs').with_suffix(''))
    assert any(fnmatch.fnmatch(found, name) for name in names), found


@pytest.mark.slow
def test_the_site_builds_without_warnings(tmp_path):
  """Its notebooks are executed by `make docs`."""
  for package in ('sphinx', 'myst_nb', 'sphinx_book_theme', 'latex2mathml'):
    pytest.importorskip(package)
  command = [sys.executable, '-m', 'sphinx', '-W', '--keep-going', '-q', '-b', 'html']
  command += ['-D', 'nb_execution_mode=off', str(ROOT / 'docs'), str(tmp_path / 'html')]
  done = subprocess.run(command, capture_output=True, text=True)
  assert done.returncode == 0, done.stderr
  assert (tmp_path / 'html' / 'notebooks' / 'own_ensemble.html').exists()


def test_notebooks_have_no_outputs():
  for path in (ROOT / 'docs').rglob('*.ipynb'):
    if '_build' not in path.parts:
      for cell in json.loads(path.read_text())['cells']:
        assert not cell.get('outputs') and not cell.get('execution_count'), path


@pytest.mark.parametrize('block', [*BLOCKS, FOREST, TORCH, PREPROCESS, FUNCTION])
def test_examples_are_short_and_parse(block):
  compile(block, str(PAGE), 'exec')
  assert len(block.strip().splitlines()) < 15


def executed(block):
  """Run a block; return its names."""
  names: dict = {}
  with warnings.catch_warnings(), jax.numpy_rank_promotion('allow'):
    exec(compile(block, 'a guide', 'exec'), names)
  return names


def trained(number):
  """Run the command of the guide to teachers, with fewer steps and a small network."""
  program, command, recipe, *flags = blocks(TEACHERS, 'bash')[number].split()
  assert (program, command) == ('ensdistill', 'train')
  quick = ['student.steps=20', 'student.batch_size=32', 'network.name=mlp', 'evaluate.shift=none']
  quick += ['scores=2', 'logs=2']
  flags += [f'--config.{setting}' for setting in quick]
  with jax.numpy_rank_promotion('allow'):
    assert cli.main([command, f'{recipe}:small', *flags, '--workdir=run']) == 0
  rows = json.loads(pathlib.Path('run/results.json').read_text())['rows']
  assert {'member', 'ensemble', 'student'} <= {row['role'] for row in rows}


@pytest.mark.slow
def test_the_forest_of_the_guide_to_teachers(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  names = executed(FOREST)
  predicted = names['student'].predict(names['x_test']).probs.argmax(1)
  assert (predicted == names['y_test']).mean() > 0.8
  assert (tmp_path / 'forest' / 'report.html').exists()


@pytest.mark.slow
def test_the_modules_of_torch_of_the_guide_to_teachers(tmp_path, monkeypatch):
  pytest.importorskip('torch')
  monkeypatch.chdir(tmp_path)
  executed(TORCH)
  trained(0)
  preprocess = executed(f'import torch\n{PREPROCESS}')['preprocess']
  tensor = preprocess(np.full((2, 5, 4, 3), 0.485, np.float32))
  assert tuple(tensor.shape) == (2, 3, 5, 4) and abs(float(tensor[:, 0].max())) < 1e-6


@pytest.mark.slow
def test_the_function_of_the_guide_to_teachers(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  runpy.run_path(str(ROOT / 'examples' / 'jax_digits.py'), run_name='__main__')
  pathlib.Path('my_ensemble.py').write_text(FUNCTION)
  trained(1)


@pytest.mark.slow
def test_the_ensemble_of_the_readme():
  section = (ROOT / 'README.md').read_text().partition('## Your own ensemble')[2]
  names = executed(blocks(section)[0])
  found = names['student'].predict(names['x']).probs.argmax(1)
  assert (found == names['y']).mean() > 0.8


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
  """Its example and its commands run as they are, in eleven lines."""
  section = (ROOT / 'README.md').read_text().partition('## Use the student')[2]
  (example, *_), (commands, *_) = (
    re.findall(f'```{kind}\n(.*?)```', section, re.DOTALL) for kind in ('python', 'bash')
  )
  assert len([*filter(None, (example + commands).splitlines())]) <= 11
  monkeypatch.chdir(tmp_path)
  digits = data.load('digits', limit=60)
  config = tiny.config(data__name='digits', data__limit=60)
  plan = tiny.plan(config, digits, pathlib.Path('runs/kd_digits'))
  export.save_all(plan, tiny.untrained(plan)[1])
  x = digits.test.x
  np.save('images.npy', x)
  names: dict = {}
  exec(compile(example, 'README.md', 'exec'), names)
  assert names['soft'].shape == names['sets'].shape == (997, 10)
  assert names['unsure'].shape == names['y'].shape == (997,)
  assert '## Calibration' in capsys.readouterr().out
  for line in commands.splitlines():
    program, *arguments = line.split()
    assert program == 'ensdistill' and cli.main(arguments) == 0
  lines = pathlib.Path('predictions.csv').read_text().splitlines()
  assert len(lines) == 61 and lines[0].endswith('set,abstain,error')
  assert export.load('runs/kd_digits/student-int8').spec['weights'] == {'form': 'int8'}
