"""Whole runs with an ensemble that was trained elsewhere: train, evaluate, report, load."""

import json
import pathlib
import runpy

import jax
import numpy as np
import pytest

import ensdistill
from ensdistill import main

EXAMPLES = pathlib.Path(__file__).parent.parent / 'examples'
QUICK = [
  'student.steps=20', 'student.batch_size=32', 'network.name=mlp', 'evaluate.shift=none',
  'scores=2', 'logs=2',
]  # fmt: skip
METHODS = ('kd', 'hydra', 'end2')
OTHERS = [pytest.param(method, marks=pytest.mark.slow) for method in METHODS[1:]]


def run(method, folder, *settings, data='digits'):
  flags = [f'--config.{setting}' for setting in (*QUICK, *settings)]
  main.main([f'{method}_{data}:small', f'--workdir={folder}', *flags])
  return json.loads((folder / 'results.json').read_text())


def example(name, folder, monkeypatch):
  monkeypatch.chdir(folder)
  runpy.run_path(str(EXAMPLES / name), run_name='__main__')


def check(results, folder, members):
  rows = {row['name']: row['metrics'] for row in results['rows']}
  assert {'member', f'ensemble-{members}', 'student'} <= rows.keys()
  assert rows['member']['nll'] > rows[f'ensemble-{members}']['nll']
  assert 'agreement_kl' in rows['student'] and (folder / 'report.html').is_file()
  student = ensdistill.load(folder / 'student')
  assert np.isfinite(student.predict(np.zeros((2, *student.spec['shape']), np.float32)).probs).all()


@pytest.mark.parametrize('method', [METHODS[0], *OTHERS])
def test_the_trees_of_a_forest(method, tmp_path, monkeypatch, capsys):
  example('forest.py', tmp_path, monkeypatch)
  settings = ['data.name=npz:wine.npz', 'teacher.outputs=forest.npz', 'evaluate.ood=outside']
  results = run(method, tmp_path / 'run', *settings)
  check(results, tmp_path / 'run', members=10)
  said = capsys.readouterr().err
  assert 'outputs of 10 members from forest.npz, student.targets=stored; accuracy' in said
  assert (
    'forest.npz has no outputs for it' in results['not_run']['member and ensemble on ood/outside']
  )
  run(method, tmp_path / 'run', *settings)
  assert 'already finished' in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize('method', METHODS)
def test_modules_of_torch(method, tmp_path, monkeypatch):
  pytest.importorskip('torch')
  example('torch_digits.py', tmp_path, monkeypatch)
  check(run(method, tmp_path / 'run', 'teacher.outputs=torch.npz'), tmp_path / 'run', members=4)


@pytest.mark.slow
def test_models_of_keras(tmp_path, monkeypatch):
  monkeypatch.setenv('KERAS_BACKEND', 'jax')
  pytest.importorskip('keras')
  with jax.numpy_rank_promotion('allow'):
    example('keras_digits.py', tmp_path, monkeypatch)
  check(run('hydra', tmp_path / 'run', 'teacher.outputs=keras.npz'), tmp_path / 'run', members=4)


@pytest.mark.slow
@pytest.mark.parametrize('method', [*METHODS, 'be_confods', 'latentbe_tdiv_sdiv'])
def test_a_function_in_jax(method, tmp_path, monkeypatch):
  example('jax_digits.py', tmp_path, monkeypatch)
  with jax.numpy_rank_promotion('allow'):
    results = run(
      method, tmp_path / 'run', f'teacher.source={EXAMPLES / "jax_digits.py"}:ensemble',
      'evaluate.ood=digits_inverted', 'student.optimizer.rate=0.01',
    )  # fmt: skip
  check(results, tmp_path / 'run', members=4)
  assert results['rows'][0]['metrics']['ood/digits_inverted/auroc_total'] > 0


@pytest.mark.parametrize(
  ('settings', 'words'),
  [
    (['student.targets=online'], "holds its outputs alone: set student.targets='stored'"),
    (['perturb.name=ods'], 'holds its outputs on the clean ones'),
    (['augment.flip=true'], '--config.augment.flip=0, or --config.student.targets=clean_cache'),
    (['data.aux=photographs'], "data.aux='photographs' needs the teacher on other inputs"),
    (['teacher.members=7'], 'teacher.members=7, but forest.npz has 10: set teacher.members=0'),
    (['teacher.source=a:b'], 'set one of them'),
  ],
)
def test_what_stored_outputs_cannot_serve(settings, words, tmp_path, monkeypatch, capsys):
  example('forest.py', tmp_path, monkeypatch)
  with pytest.raises(SystemExit) as stopped:
    given = ['data.name=npz:wine.npz', 'teacher.outputs=forest.npz', 'evaluate.ood=outside']
    run('kd', tmp_path / 'run', *given, *settings)
  error = capsys.readouterr().err
  assert stopped.value.code in (1, 2) and words in error and error.count('\n') == 1
  assert not (tmp_path / 'run').exists()


def test_members_are_counted_somewhere(capsys):
  with pytest.raises(SystemExit):
    main.main(['kd_digits', '--config.teacher.members=0'])
  assert 'teacher.members=0 is for teacher.outputs' in capsys.readouterr().err


def test_a_missing_file_of_outputs_is_named_by_its_setting(capsys):
  with pytest.raises(SystemExit):
    main.main(['hydra_digits:small', '--config.teacher.outputs=nowhere.npz'])
  assert "teacher.outputs='nowhere.npz' does not exist: name the file" in capsys.readouterr().err
