"""`ensdistill.distil`: arrays and functions in, a student out."""

import functools
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ensdistill
from ensdistill import run
from ensdistill.config import recipes
from ensdistill.storage import safe

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(240, 2)).astype(np.float32)
Y = (X[:, 0] * X[:, 1] > 0).astype(np.int64)
QUICK = dict(
  network='mlp',
  network_settings={'hidden': (16,)},
  steps=300,
  changes={'student.optimizer.rate': 1e-2},
  quiet=True,
)


def apply(sign, x):
  """A member: right, with a scale of its own."""
  return jnp.stack([-sign * x[:, 0] * x[:, 1], sign * x[:, 0] * x[:, 1]], 1) * 4


SCALES = np.array([0.5, 1.0, 2.0], np.float32)
LOGITS = np.stack([np.asarray(apply(s, X)) for s in SCALES], 1)


@pytest.mark.parametrize('method', ['hydra', 'end2', 'kd', 'latentbe'])
def test_outputs_are_distilled(method, capsys):
  student = ensdistill.distil(LOGITS, X, Y, method=method, **QUICK)
  found = student.predict(X)
  assert (found.probs.argmax(-1) == Y).mean() > 0.8
  assert student.student.kind == {'hydra': 'multi_head'}.get(method, 'single')
  assert not capsys.readouterr().err


@pytest.mark.parametrize('given', ['variables', 'functions', 'joint'])
def test_functions_are_distilled_with_a_perturbation(given):
  with jax.numpy_rank_promotion('allow'):
    ensemble = {
      'variables': (apply, SCALES),
      'functions': [lambda x, s=s: apply(s, x) for s in SCALES],
      'joint': lambda x: jnp.stack([apply(s, x) for s in SCALES], 1),
    }[given]
    student = ensdistill.distil(ensemble, X, Y, method='be_confods', seed=1, **QUICK)
  assert student.student.size == 3
  assert (student.predict(X).probs.argmax(-1) == Y).mean() > 0.8


def test_regression_learns_in_the_units_of_the_targets():
  y = 1000 + 50 * X[:, 0]
  each = y[:, None] + RANDOM.normal(size=(240, 3))
  outputs = np.stack([each, np.full((240, 3), np.log(4.0))], -1).astype(np.float32)
  student = ensdistill.distil(outputs, X, y, method='hydra', **QUICK | {'steps': 300})
  assert np.abs(student.predict(X).mean[:, 0] - y).mean() < 15


def test_labels_are_not_needed():
  student = ensdistill.distil(LOGITS, X, method='kd', valid=0.0, **QUICK)
  assert (student.predict(X).probs.argmax(-1) == Y).mean() > 0.8
  with pytest.raises(ValueError, match="'be_confods' also learns from labels: pass y"):
    ensdistill.distil(LOGITS, X, method='be_confods', **QUICK)


@pytest.mark.parametrize(
  'teacher',
  [
    (apply, SCALES),
    [functools.partial(apply, s) for s in SCALES],
    lambda x: jnp.stack([apply(s, x) for s in SCALES], 1),
  ],
)
def test_functions_tell_their_classes_without_labels(teacher):
  with jax.numpy_rank_promotion('allow'):
    student = ensdistill.distil(teacher, X, method='kd', **QUICK)
  assert student.predict(X).probs.shape == (240, 2)
  assert (student.predict(X).probs.argmax(-1) == Y).mean() > 0.8


@pytest.mark.parametrize('form', ['list', 'joint', 'variables'])
def test_a_folder_of_other_functions_gives_no_old_student(form, tmp_path):
  """All that differs is what the functions compute: there is no source file and no weight."""

  def made(sign):
    functions = [functools.partial(apply, sign * s) for s in SCALES]
    return {
      'list': functions,
      'joint': lambda x: jnp.stack([f(x) for f in functions], 1),
      'variables': (lambda scale, x: apply(sign * scale, x), SCALES),
    }[form]

  call = dict(method='kd', folder=tmp_path, **QUICK)
  with jax.numpy_rank_promotion('allow'):
    one = ensdistill.distil(made(1.0), X, **call).predict(X).probs
    np.testing.assert_array_equal(ensdistill.distil(made(1.0), X, **call).predict(X).probs, one)
    other = ensdistill.distil(made(-1.0), X, **call).predict(X).probs
  assert (other.argmax(-1) != one.argmax(-1)).mean() > 0.8


@pytest.mark.parametrize('teacher', ['outputs.npz', {'train': LOGITS}])
def test_a_file_of_outputs_is_refused_with_the_remedy(teacher):
  with pytest.raises(ValueError, match='pass the array of outputs for the rows of x, such as'):
    ensdistill.distil(teacher, X, Y)


@pytest.mark.parametrize('teacher', [pytest.param(2, marks=pytest.mark.slow), LOGITS])
def test_a_folder_of_other_data_gives_no_old_student(teacher, tmp_path):
  call = dict(method='kd', folder=tmp_path, **QUICK | {'steps': 3})
  ensdistill.distil(teacher, X, Y, **call)
  again = ensdistill.distil(teacher, X[::-1].copy(), Y, **call | {'changes': {UNCHECKED: False}})
  fresh = dict(call, folder=None, changes={UNCHECKED: False})
  np.testing.assert_array_equal(
    again.predict(X).probs, ensdistill.distil(teacher, X[::-1].copy(), Y, **fresh).predict(X).probs
  )


UNCHECKED = 'teacher.check_order'


def test_members_at_chance_can_be_accepted():
  for changes in (None, {UNCHECKED: None}):
    with pytest.raises(ensdistill.data.DataError, match='set teacher.check_order=false'):
      ensdistill.distil(LOGITS[::-1], X, Y, method='kd', **QUICK | {'changes': changes})
  for changes in ({UNCHECKED: False}, {'teacher': {'check_order': False}}):
    short = QUICK | {'steps': 2, 'changes': changes}
    ensdistill.distil(LOGITS[::-1], X, Y, method='kd', **short)


def test_a_loss_that_is_not_finite_names_no_temporary_file(tmp_path):
  diverging = {'name': 'sgd', 'rate': 1e9, 'clip': 0.0}
  wild = QUICK | {'changes': {f'student.optimizer.{k}': v for k, v in diverging.items()}}
  with pytest.raises(ArithmeticError, match="set on_nan='skip' or 'rollback'$"):
    ensdistill.distil(LOGITS, X, Y, method='kd', **wild)
  with pytest.raises(ArithmeticError, match='bad_step.json has the batch and the terms'):
    ensdistill.distil(LOGITS, X, Y, method='kd', folder=tmp_path, **wild)


def test_a_folder_is_held_by_one_call(tmp_path):
  held = []

  def watched(s, x):
    held.append(safe.is_locked(tmp_path / 'lock'))
    return apply(s, x)

  short = QUICK | {'steps': 2}
  with jax.numpy_rank_promotion('allow'):
    ensdistill.distil((watched, SCALES), X, method='kd', folder=tmp_path, **short)
  assert held[-1] and not safe.is_locked(tmp_path / 'lock')


def test_modules_of_the_library_are_found_at_first_use():
  script = """
import ensdistill, sys
assert 'jax' not in sys.modules
for name in ('teachers', 'data', 'objectives', 'metrics', 'predictive', 'sklearn'):
  assert getattr(ensdistill, name).__name__ == f'ensdistill.{name}'
"""
  subprocess.run([sys.executable, '-c', script], check=True)


def test_the_same_call_gives_the_same_student_and_continues(tmp_path):
  one = ensdistill.distil(LOGITS, X, Y, method='kd', **QUICK)
  ensdistill.distil(LOGITS, X, Y, method='kd', folder=tmp_path, **QUICK)
  again = ensdistill.distil(LOGITS, X, Y, method='kd', folder=tmp_path, **QUICK)
  np.testing.assert_array_equal(one.predict(X).probs, again.predict(X).probs)


@pytest.mark.parametrize(
  ('call', 'words'),
  [
    (dict(method='hydrant'), "unknown method 'hydrant'"),
    (dict(valid=1.5), 'valid=1.5 must be a share'),
    (dict(x=X[:-1], y=Y[:-1]), 'train has 240 rows, but arrays has 239'),
    (dict(y=Y[:-1]), 'x_train has 240 examples, y_train has 239'),
    (dict(teacher=LOGITS[:, 0]), r'store floats \[N, M, 2\]'),
    (dict(teacher=lambda x: x), r'returned shape \(8, 2\) for 8 inputs'),
    (dict(method='be_confods'), 'give the ensemble as functions'),
    (dict(network_settings={'widht': 3}), "unknown setting of a network 'widht'"),
    (dict(changes={'objective.temperatur': 3}), "unknown setting 'objective.temperatur'"),
    (dict(steps=0), 'steps'),
    (dict(teacher=0), 'teacher=0: give at least one network, or an ensemble'),
    (dict(teacher=2, y=None), 'teacher=2: networks that are trained first need y'),
    (dict(changes={'seed': 3}), "changes={'seed': ...}: pass seed="),
    (dict(changes={'data.valid': 9}), 'pass valid='),
    (dict(changes={'data.limit': 9}), 'no effect on arrays'),
    (dict(changes={'evaluate.ood': 'none'}), 'no effect on arrays'),
    (dict(changes={'sinks': 'wandb'}), 'no effect on arrays'),
    (dict(changes={'teacher.outputs': 'a.npz'}), 'pass the outputs as the teacher'),
    (dict(teacher=[LOGITS[:, 0], LOGITS[:, 1]]), r'list of 2 arrays: stack them to \[N, M, O\]'),
    (dict(teacher=LOGITS, y=Y.astype(float)), 'y holds classes as floats'),
    (dict(teacher=(apply, [])), 'there are no variables'),
  ],
)
def test_mistakes_are_named(call, words):
  given = {'teacher': LOGITS, 'x': X, 'y': Y, 'method': 'kd', **QUICK, **call}
  with pytest.raises((ValueError, KeyError, ensdistill_error()), match=words):
    ensdistill.distil(**given)


@pytest.mark.parametrize(
  ('changes', 'words'),
  [
    (
      {'augment.flip': True, 'student.targets': 'clean_cache'},
      r'augment is for images, and arrays has inputs of shape \(2,\): set .*augment.flip=false',
    ),
    ({'augment.crop_area': 0.5}, 'augment.crop_area=0.5 is for images .*: set augment.crop_area=0'),
    ({'objective.label_weight': 1.0}, "objective.name='mean': lower it, or set"),
    ({'teacher.select': 'rmse'}, "unknown teacher.select for categorical data 'rmse'"),
  ],
)
def test_a_call_refuses_what_a_run_refuses_with_the_same_line(changes, words, tmp_path):
  table, config = ensdistill.data.from_arrays(X, Y), recipes.named('kd_digits')
  config.update_from_flattened_dict({'network.name': 'mlp', **changes})
  with pytest.raises(ValueError, match=words) as of_run:
    run.checked(config, tmp_path, lambda *_: (table, table))
  with pytest.raises(ValueError, match=words) as of_call:
    ensdistill.distil((apply, SCALES), X, Y, **QUICK | {'method': 'kd', 'changes': changes})
  assert str(of_call.value) == str(of_run.value) and '\n' not in str(of_call.value)


def ensdistill_error():
  from ensdistill.data import DataError

  return DataError


def forest():
  """The trees of a forest on wine."""
  from sklearn.datasets import load_wine
  from sklearn.ensemble import RandomForestClassifier

  from ensdistill import teachers

  x, y = load_wine(return_X_y=True)
  found = RandomForestClassifier(4, random_state=0).fit(x[::2], y[::2])
  return teachers.from_sklearn(found, x[::2]), x[::2], y[::2], teachers.from_sklearn(found, x), x, y


def modules():
  """Networks of PyTorch on digits."""
  torch = pytest.importorskip('torch')
  from ensdistill import data, teachers

  (x, y), (x_test, y_test) = data.parts('digits').values()
  found = []
  for seed in range(3):
    torch.manual_seed(seed)
    layers = torch.nn.Flatten(), torch.nn.Linear(64, 32), torch.nn.ReLU(), torch.nn.Linear(32, 10)
    network = torch.nn.Sequential(*layers)
    optimizer = torch.optim.Adam(network.parameters(), 1e-2)
    for _ in range(60):
      optimizer.zero_grad()
      inputs = torch.as_tensor(x.transpose(0, 3, 1, 2).copy())
      torch.nn.functional.cross_entropy(network(inputs), torch.as_tensor(y).long()).backward()
      optimizer.step()
    found.append(network)
  return teachers.from_torch(found, x), x, y, teachers.from_torch(found, x_test), x_test, y_test


def functions():
  """Functions in JAX, which a report knows without their outputs."""
  return (apply, SCALES), X, Y, None, X, Y


@pytest.mark.slow
@pytest.mark.parametrize('method', ['hydra', 'end2', 'kd'])
@pytest.mark.parametrize('ensemble', [forest, modules, functions])
def test_ensembles_of_every_kind_are_distilled_with_the_report(ensemble, method, tmp_path):
  teacher, x, y, outputs, x_test, y_test = ensemble()
  student = ensdistill.distil(teacher, x, y, method=method, **QUICK)
  results = student.report(x_test, y_test, tmp_path, teacher=outputs)
  assert [row['role'] for row in results['rows']][-2:] == ['ensemble', 'student']
  assert results['rows'][-1]['metrics']['acc'] > 0.7
  assert (tmp_path / 'report.html').exists()
