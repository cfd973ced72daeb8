"""What a sweep compares before it runs: digests of given ensembles and of the data."""

import numpy as np
import pytest

from ensdistill import teachers
from ensdistill.config import recipes
from ensdistill.sweep import plan, records
from ensdistill.sweep.jobs import Job, Kind

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(90, 3)).astype(np.float32)
Y = (X[:, 0] > 0).astype(np.int64)


def stored(folder, seed=0):
  """Write data and the outputs of two members for them."""
  arrays = {'x_train': X[:60], 'y_train': Y[:60], 'x_test': X[60:], 'y_test': Y[60:]}
  np.savez(folder / 'data.npz', **arrays)
  noise = np.random.default_rng(seed).normal(size=(60, 2, 2))
  logits = 4 * np.eye(2)[Y[:60]][:, None] + noise
  teachers.save(str(folder / f'outputs{seed}.npz'), train=logits.astype(np.float32))


def kind(folder, outputs=''):
  config = recipes.make('kd', 'digits')
  config.data.update(name=f'npz:{folder / "data.npz"}', valid=10)
  config.network.name = 'mlp'
  settings = {}
  if outputs:
    config.teacher.update(outputs=str(folder / outputs), members=2)
    settings = {'teacher.outputs': config.teacher.outputs}
  config.augment.crop = 0
  config.evaluate.update(ood='none', shift='none')
  config.student.batch_size = config.teacher.batch_size = 16
  return Kind('kd', 'digits', '', settings, config)


def test_given_ensembles_of_other_content_are_other_ensembles(tmp_path):
  stored(tmp_path)
  stored(tmp_path, seed=1)
  kinds = [kind(tmp_path, 'outputs0.npz'), kind(tmp_path, 'outputs1.npz')]
  plan.identify(kinds)
  assert kinds[0].ensemble != kinds[1].ensemble
  again = kind(tmp_path, 'outputs0.npz')
  plan.identify([again])
  assert again.ensemble == kinds[0].ensemble


def finished(folder, one, content=None):
  """Return a sweep of one job, with its record."""
  job = Job(one, 0, 0)
  sweep = plan.Sweep(folder / 'sweep', [job])
  made = {'format': 1, 'method': 'kd', 'rows': [{}], 'config': job.decisive}
  if not sweep.queue.is_done(job):
    records.write(sweep.queue.result(job), made | {'data_content': content})
  return sweep


def test_a_finished_job_of_another_ensemble_is_refused(tmp_path):
  for seed, refused in ((0, False), (1, True)):
    stored(tmp_path, seed)
    (tmp_path / f'outputs{seed}.npz').replace(tmp_path / 'given.npz')
    one = kind(tmp_path, 'given.npz')
    plan.identify([one])
    sweep = finished(tmp_path, one)
    if refused:
      with pytest.raises(ValueError, match=r'made with other settings \(teacher.content: '):
        sweep.queue.check()
    else:
      sweep.queue.check()


def test_a_finished_job_of_other_data_is_refused(tmp_path):
  stored(tmp_path)
  content = plan.inputs.load_data(kind(tmp_path).config)[1].fingerprint
  sweep = finished(tmp_path, kind(tmp_path), content)
  sweep.queue.check()
  sweep.check()
  np.savez(tmp_path / 'data.npz', x_train=X[:60] + 1, y_train=Y[:60], x_test=X[60:], y_test=Y[60:])
  with pytest.raises(ValueError, match='made with other data of the name npz:'):
    sweep.check()
  (tmp_path / 'data.npz').unlink()  # finished jobs do not need it
  sweep.check()


def test_an_ensemble_that_cannot_be_read_is_named(tmp_path):
  stored(tmp_path)
  with pytest.raises(ValueError, match='on digits: .*missing.npz'):
    plan.identify([kind(tmp_path, 'missing.npz')])


@pytest.mark.parametrize('validate', [None, 'first,every=2'])
def test_a_short_run_of_a_given_ensemble_trains_no_teacher(tmp_path, validate):
  stored(tmp_path)
  one = kind(tmp_path, 'outputs0.npz')
  one.config.validate, one.config.network.depth = validate, None
  one.config.teacher.members = 0
  found = plan.Sweep(tmp_path / 'sweep', [Job(one, 0, 0)])
  stages = plan._stages(found._plan(one, plan._Loading()))
  assert stages[0] == ('teacher', 0, 0)
  flags = plan._few_steps(stages)
  assert '--config.student.steps=24' in flags and not any('teacher' in flag for flag in flags)
