"""What a new process pays before its first prediction: imports, programs, hits of the cache."""

import json
import os
import pathlib
import subprocess
import sys

import jax
import numpy as np
import pytest
import tiny

from ensdistill import export, runtime, teacher
from ensdistill.logs import writers
from ensdistill.mesh import block_size
from ensdistill.student.model import Model
from ensdistill.training import stage

ROOT = pathlib.Path(__file__).parent.parent
HEAVY = (
  'tensorflow', 'tensorflow_datasets', 'orbax', 'matplotlib', 'tensorboard', 'optax', 'scipy',
  'clu', 'ml_collections', 'sklearn', 'torch', 'jinja2', 'grain',
)  # fmt: skip

PREDICT = """
import json, sys
import jax, numpy as np
import ensdistill

counts = {}
def count(name, **_):
  counts[name.rsplit('/', 1)[-1]] = counts.get(name.rsplit('/', 1)[-1], 0) + 1
jax.monitoring.register_event_listener(count)
before = jax.config.jax_compilation_cache_dir
model = ensdistill.load(sys.argv[1])
probs = model.predict(np.ones((5, 8, 8, 1), np.float32)).probs
json.dump({
  'modules': sorted({name.split('.')[0] for name in sys.modules}),
  'hits': counts.get('cache_hits', 0),
  'same': jax.config.jax_compilation_cache_dir == before,
  'probs': probs.tolist(),
}, sys.stdout)
"""


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  """A stored student: a small network with random weights."""
  plan = tiny.plan(tiny.config(), tiny.dataset(), tmp_path_factory.mktemp('runs'))
  export.save_all(plan, tiny.untrained(plan)[1])
  return plan.folder / 'student'


def predict(folder, cache, **settings):
  """Return what PREDICT prints in a new process with this cache and environment."""
  theirs = 'JAX_COMPILATION', 'JAX_ENABLE', 'JAX_PERSISTENT'
  kept = {k: v for k, v in os.environ.items() if not k.startswith(theirs)}
  env = kept | {'PYTHONPATH': str(ROOT), 'ENSDISTILL_CACHE': str(cache), **settings}
  command = [sys.executable, '-c', PREDICT, str(folder)]
  done = subprocess.run(command, env=env, capture_output=True, text=True)
  assert done.returncode == 0, done.stderr
  return json.loads(done.stdout)


def test_a_second_process_predicts_from_the_cache_and_imports_little(folder, tmp_path):
  cold, warm = (predict(folder, tmp_path / 'cache') for _ in range(2))
  assert not set(HEAVY) & set(cold['modules'])
  assert cold['hits'] == 0 and warm['hits'] >= 1
  assert cold['same'] and warm['same']
  assert cold['probs'] == warm['probs']
  assert list((tmp_path / 'cache').rglob('*-cache'))


def test_jax_settings_take_precedence(folder, tmp_path):
  own, ours = tmp_path / 'own', tmp_path / 'ours'
  settings = {
    'JAX_COMPILATION_CACHE_DIR': str(own),
    'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0',
  }
  assert predict(folder, ours, **settings)['same']
  assert list(own.rglob('*-cache')) and not ours.exists()
  predict(folder, ours, JAX_ENABLE_COMPILATION_CACHE='false')
  assert not ours.exists()
  predict(folder, '')  # switched off by ours


def test_the_cache_is_scoped(monkeypatch, tmp_path):
  monkeypatch.setenv('ENSDISTILL_CACHE', str(tmp_path))
  mine = jax.config.jax_compilation_cache_dir
  jax.config.update('jax_compilation_cache_dir', None)
  try:
    with pytest.raises(KeyError), runtime.cached():
      assert jax.config.jax_compilation_cache_dir.startswith(str(tmp_path))
      with runtime.cached():  # an inner one leaves it as it is
        pass
      assert jax.config.jax_compilation_cache_dir.startswith(str(tmp_path))
      raise KeyError
    assert jax.config.jax_compilation_cache_dir is None
  finally:
    jax.config.update('jax_compilation_cache_dir', mine)


def test_sizes_are_few():
  assert [block_size(n, 500) for n in (0, 1, 2, 3, 5, 256, 257, 500, 9999)] == [
    1, 1, 2, 4, 8, 256, 500, 500, 500
  ]  # fmt: skip
  assert block_size(7, 3) == 3
  for n in range(1, 600):
    assert n <= block_size(n, 1024) < 2 * n or n == 1
  assert len({block_size(n, 500) for n in range(1, 301)}) == 10


def test_ten_programs_serve_every_size_with_equal_results(folder):
  model = export.load(folder)
  x = np.random.default_rng(0).random((300, 8, 8, 1), np.float32)
  every = model.predict(x)
  traced = 0
  forward = model.objective.predictive

  def counted(*arguments):
    nonlocal traced
    traced += 1
    return forward(*arguments)

  object.__setattr__(model.objective, 'predictive', counted)
  again = Model(model.spec, model.student, model.variables)
  again.__dict__['objective'] = model.objective
  for n in [2, *range(1, 301, 7), *range(300, 0, -11)]:
    found = again.predict(x[:n])
    for name in ('probs', 'total', 'data', 'knowledge'):
      mine, all_of_them = getattr(found, name), getattr(every, name)
      np.testing.assert_allclose(mine, all_of_them[:n], atol=1e-6)
  assert traced == len({block_size(n, 500) for n in range(1, 301)})


def test_probabilities_are_those_of_the_predictive_distribution(folder):
  model = export.load(folder)
  x = np.random.default_rng(1).random((13, 8, 8, 1), np.float32)
  found, p = model.predict(x, batch_size=4), model.predictive(x)
  np.testing.assert_allclose(found.probs, np.exp(p.log_probs()), atol=1e-6)
  for name in ('total', 'data', 'knowledge'):
    np.testing.assert_allclose(getattr(found, name), getattr(p, name)(), atol=1e-6)


@pytest.mark.parametrize('strategy', ['vmap', 'loop'])
def test_a_stage_traces_its_step_once(strategy, tmp_path, monkeypatch):
  config = tiny.config(teacher__steps=2, teacher__strategy=strategy)
  plan = tiny.plan(config, tiny.dataset(), tmp_path / 'run')
  original, traced = stage.train_step, []

  def counted(*arguments):
    traced.append(arguments)
    return original(*arguments)

  monkeypatch.setattr(stage, 'train_step', counted)
  teacher.obtain(plan, writers.Silent())
  assert len(traced) == 1
