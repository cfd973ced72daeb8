"""The examples of custom parts, from training to the comparison."""

import json
import pathlib
import subprocess
import sys

import numpy as np
import own_parts
import pytest

import ensdistill
from ensdistill import main
from ensdistill.commands import evaluate, report

EXAMPLES = pathlib.Path(__file__).parent.parent / 'examples'
QUICK = [
  'teacher.steps=20', 'student.steps=20', 'teacher.members=2', 'student.batch_size=32',
  'evaluate.shift=none', 'evaluate.ood=none', 'scores=2', 'logs=2',
]  # fmt: skip
MLP = 'network.name=mlp'
OWN = {
  'objective': ('reverse_digits', ['own_objective.py'], [MLP], "objective 'reverse_mean'"),
  'perturbation': (
    'kd_digits', ['own_perturbation.py'], [MLP, 'perturb.name=mirror', 'perturb.rate=1'], None
  ),
  'student': ('kd_digits', ['own_student.py'], [MLP, 'student.kind=scaled'], "student 'scaled'"),
  'network': (
    'kd_digits', [], [f'network.name={EXAMPLES}/own_network.py:CNN', 'network.channels=4'],
    "network 'own_network.py:CNN'",
  ),
}  # fmt: skip


@pytest.fixture(autouse=True)
def no_imports():
  with own_parts.forgotten():
    yield


def train(recipe, folder, files, settings):
  flags = [f'--config.{setting}' for setting in (*QUICK, *settings)]
  imports = [f'--import={EXAMPLES / name}' for name in files]
  teachers = f'--config.teacher.dir={folder.parent / "teachers"}'
  main.main([f'{recipe}:small', f'--workdir={folder}', teachers, *imports, *flags])
  return json.loads((folder / 'results.json').read_text())


@pytest.mark.parametrize(
  'axis', ['objective', *(pytest.param(axis, marks=pytest.mark.slow) for axis in list(OWN)[1:])]
)
def test_an_example_trains_loads_evaluates_and_is_compared(axis, tmp_path, capsys):
  recipe, files, settings, needs = OWN[axis]
  results = train(recipe, tmp_path / 'own', files, settings)
  x = np.random.default_rng(0).random((3, 8, 8, 1), np.float32)
  here = ensdistill.load(tmp_path / 'own' / 'student').predict(x)  # imported by the training
  file = str(EXAMPLES / (files[0] if files else 'own_network.py:CNN'))
  own_parts.forget()
  arguments = [f'--student={tmp_path / "own"}', '--ood=none', '--shift=none']
  if needs:
    with pytest.raises(ValueError, match=f'{needs}.*not imported.*--import={axis and "own_"}'):
      ensdistill.load(tmp_path / 'own' / 'student')
    with pytest.raises(SystemExit):
      evaluate.main(arguments)
    assert capsys.readouterr().err.count('\n') >= 1
  imports = file if needs else ()
  again = ensdistill.load(tmp_path / 'own' / 'student', imports).predict(x)
  np.testing.assert_array_equal(here.probs, again.probs)
  own_parts.forget()
  out = tmp_path / 'evaluated.json'
  evaluate.main([*arguments, f'--out={out}', *([f'--import={file}'] if needs else [])])
  (row,) = json.loads(out.read_text())['rows']
  student = next(row for row in results['rows'] if row['name'] == 'student')['metrics']
  assert row['metrics']['nll'] == pytest.approx(student['nll'], rel=1e-5)
  own_parts.forget()
  capsys.readouterr()
  report.main([str(tmp_path / 'own'), f'--out={tmp_path / "page.html"}'])  # needs no import
  assert '\nstudent ' in capsys.readouterr().out and (tmp_path / 'page.html').is_file()


@pytest.mark.parametrize('name', sorted(EXAMPLES.glob('own_*.py')))
def test_the_documentation_shows_the_examples_in_under_15_lines(name):
  text = (EXAMPLES.parent / 'docs' / 'extending.md').read_text()
  blocks = [block.partition('```')[0] for block in text.split('```python\n')[1:]]
  code = name.read_text().split('"""', 2)[2]
  for part in code.strip().split('\n\n\n'):
    assert any(part in block for block in blocks), part
  shown = [block for block in blocks if block.strip() and block.strip() in code]
  for block in shown:
    lines = [line.strip() for line in block.splitlines()]
    own = [line for line in lines if line and not line.startswith(('import', 'from', '"""', ')'))]
    assert len(own) < 15
  assert shown


def test_a_changed_source_is_refused_by_its_run_and_said_by_its_student(tmp_path, capsys):
  source = tmp_path / 'mine.py'
  source.write_text((EXAMPLES / 'own_objective.py').read_text())
  train('reverse_digits', tmp_path / 'run', [source], [MLP])
  capsys.readouterr()
  source.write_text(source.read_text() + '\n# changed\n')
  with pytest.raises(SystemExit):
    train('reverse_digits', tmp_path / 'run', [source], [MLP])
  assert (
    'other settings (imports_content: other code in the imported files, ' in capsys.readouterr().err
  )
  ensdistill.load(tmp_path / 'run' / 'student', str(source))
  assert 'differs from the mine.py of the training' in capsys.readouterr().err


@pytest.mark.slow
def test_a_network_of_ones_own_trains_teachers_that_others_find(tmp_path, capsys):
  recipe, files, settings, _ = OWN['network']
  train(recipe, tmp_path / 'first', files, settings)
  own_parts.forget()
  train(recipe, tmp_path / 'second', files, [*settings, 'student.seed=1'])
  assert '2 of 2 members found' in capsys.readouterr().err


@pytest.mark.slow
def test_the_examples_work_as_their_commands_say_in_a_sweep(tmp_path):
  command = [
    *(sys.executable, '-m', 'ensdistill', 'sweep', 'kd,reverse', 'digits:small'),
    *(f'--import={EXAMPLES / "own_objective.py"}', f'--out={tmp_path}', '--seeds=2'),
    *(f'--config.{setting}' for setting in (*QUICK, MLP)),
  ]
  done = subprocess.run(command, capture_output=True, text=True, cwd=EXAMPLES.parent)
  assert done.returncode == 0, done.stderr
  summary = (tmp_path / 'summary.md').read_text()
  assert '| reverse' in summary and '| kd' in summary
  records = [json.loads(file.read_text()) for file in (tmp_path / 'results').glob('*.json')]
  assert len(records) == 4
