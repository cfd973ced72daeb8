"""Regression from end to end: training of teachers, units, and knowledge away from the data."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from scipy import stats

from ensdistill import (
  data,
  distillation,
  families,
  members,
  metrics,
  objectives,
  perturb,
  run,
  teacher,
)
from ensdistill.config import build, checks
from ensdistill.evaluation import sets
from ensdistill.logs import writers
from ensdistill.student.model import Model
from ensdistill.training import step as train
from experiments.hydra import splits

QUIET = writers.Silent()
ADAM = dict(name='adam', rate=1e-2, decay=0.0)


def config(**changes):
  adam = {f'{s}__optimizer__{k}': v for s in ('teacher', 'student') for k, v in ADAM.items()}
  return tiny.config(**{'data__name': 'toy1d', 'evaluate__batch_size': 200} | adam | changes)


def test_least_squares_moves_the_mean_by_squares_and_the_variance_by_what_is_left():
  rng = np.random.default_rng(0)
  mean, log_var = rng.normal(0, 1, (2, 5, 3, 2)).astype(np.float32)
  y = rng.normal(0, 1, (5, 2)).astype(np.float32)
  y[1, 0] = np.nan
  loss = objectives.make('least_squares').label_loss
  outputs = np.concatenate([mean, log_var], -1)
  gradient = jax.grad(lambda o: loss(families.gaussian, o, y).sum())(outputs)
  residual = np.where(np.isnan(y)[:, None], 0, mean - np.nan_to_num(y)[:, None])
  np.testing.assert_allclose(gradient[..., :2], residual / 3, rtol=1e-5, atol=1e-7)
  known = ~np.isnan(y)[:, None]
  expected = 0.5 * (1 - residual**2 / np.exp(log_var)) * known / 3
  np.testing.assert_allclose(gradient[..., 2:], expected, rtol=1e-4, atol=1e-6)


def test_one_variance_a_member_is_the_mean_squared_residual():
  """Training reaches the closed form, and weight decay does not pull the variance towards one."""
  c = config(teacher__variance='scalar', teacher__loss='least_squares', teacher__steps=1500)
  c.teacher.optimizer.update(name='adamw', decay=0.3)
  toy = data.load('toy1d', size=64)
  method = tiny.plan(c, toy).teacher
  arrays = jax.tree.map(jnp.asarray, build.arrays(toy.train, toy))
  states = train.start(*train.network_keys(jax.random.key(0), range(2)), method, jnp.zeros((1, 1)))

  def step(state):
    return train.train_step(state, arrays, None, method)[0]

  run = members.lift(lambda state: jax.lax.fori_loop(0, 1500, lambda _, s: step(s), state))
  states = jax.jit(run)(states)
  outputs = members.frozen(method.student.module.apply, states.variables).outputs(toy.train.x)
  mean, log_var = families.gaussian.split(outputs)
  assert float(jnp.abs(log_var - log_var[:1]).max()) == 0  # the same for every input
  closed = ((mean - arrays['y'][:, None]) ** 2).mean(0)
  np.testing.assert_allclose(np.exp(log_var[0]), closed, rtol=0.02)
  assert abs(float(closed[0, 0] - closed[1, 0])) > 1e-5  # and each member has its own


@pytest.mark.parametrize(
  'changes,message',
  [
    ({'teacher__variance': 'scalar'}, "teacher.variance='scalar' is for regression"),
    ({'student__variance': 'scalar'}, "student.variance='scalar' is for regression"),
    ({'teacher__loss': 'least_squares'}, "set teacher.loss='nll'"),
    ({'teacher__loss': 'least_square'}, "did you mean 'least_squares'"),
    ({'objective__name': 'least_squares', 'objective__label_weight': 1.0}, 'is for regression'),
    ({'teacher__variance': 'scaler'}, "unknown variance 'scaler': did you mean 'scalar'"),
    (
      {'student__kind': 'multi_head', 'student__variance': 'scalar'},
      "unknown setting of multi_head 'variance'",
    ),
  ],
)
def test_settings_of_regression_are_refused_elsewhere(changes, message):
  c = tiny.config(**changes)
  images = tiny.dataset()
  with pytest.raises(ValueError, match=message):
    parts = build.parts(c)
    checks.check(c, parts)
    if 'unknown' not in message:
      checks.check_fits(c, parts, images.family)
    build.plan(c, parts, images, images, 'unused')


def process(rng, x, length=0.7, noise=0.1):
  """Return a noisy draw from a Gaussian process at x [N, 1], and its posterior variance."""

  def kernel(a, b):
    return np.exp(-((a - b.T) ** 2) / (2 * length**2))

  cov = kernel(x, x) + noise**2 * np.eye(len(x))
  y = np.linalg.cholesky(cov) @ rng.standard_normal((len(x), 1))

  def variance(at):
    return 1 - (kernel(at, x) * np.linalg.solve(cov, kernel(x, at)).T).sum(1)

  return y, variance


def test_knowledge_grows_away_from_a_gaussian_process_and_the_student_follows(tmp_path):
  rng = np.random.default_rng(1)
  x = np.sort(np.concatenate([rng.uniform(-2.5, -1, 40), rng.uniform(1, 2.5, 40)]))[:, None]
  y, posterior = process(rng, x)
  split = data.Split(x.astype(np.float32), y.astype(np.float32))
  held = data.Split(split.x[::4], split.y[::4])
  toy = tiny.replace(
    data.load('toy1d'),
    train=split,
    valid=held,
    test=held,
    mean=(float(x.mean()),),
    std=(float(x.std()),),
    target_mean=(float(y.mean()),),
    target_std=(float(y.std()),),
    space=data.load('toy1d').space._replace(unit=np.float32([x.std()])),
    fingerprint='process',
  )
  c = config(
    network__hidden=(32, 32),
    teacher__members=8,
    teacher__steps=400,
    student__steps=2400,
    student__kind='multi_head',
    student__head_stages=0,
    objective__name='members',
    perturb__name='gaussian',
    logs=2,
    scores=2,
    steps_per_call=0,
  )
  plan = tiny.plan(c, toy, tmp_path / 'run')
  ensemble = teacher.obtain(plan, QUIET)
  student = distillation.distil(plan, ensemble, QUIET)
  at = np.linspace(-4, 4, 81, dtype=np.float32)[:, None]
  theirs = families.gaussian.predictive(ensemble.freeze(ensemble.variables).outputs(at)).knowledge()
  own = jax.tree.map(lambda leaf: leaf[0], student.variables)
  ours = families.gaussian.predictive(student.method.student.freeze(own).outputs(at)).knowledge()
  grows = stats.spearmanr(theirs, posterior(at)).statistic
  follows = stats.spearmanr(ours, theirs).statistic
  print(f'rank correlation: ensemble and process {grows:.2f}, student and ensemble {follows:.2f}')
  assert grows > 0.6 and follows > 0.9
  inside = np.abs(np.abs(at[:, 0]) - 1.75) < 0.75
  assert np.mean(theirs[~inside]) > 4 * np.mean(theirs[inside])
  assert np.mean(ours[~inside]) > 4 * np.mean(ours[inside])


def table_file(folder, name='table', scale=1.0, **changes):
  """Write a table with a constant column and columns of very different scales, in one split."""
  rng = np.random.default_rng(3)
  z = rng.normal(0, 1, (60, 2))
  x = np.stack([scale * z[:, 0], z[:, 1] / scale, np.full(60, 7.0)], 1)
  y = scale * (np.sin(z[:, 0]) + 0.3 * z[:, 1] + 0.1 * rng.normal(0, 1, 60))
  mask = np.zeros((1, 60), bool)
  mask[0, :1] = True  # the test set has one row
  arrays = dict(x=x, y=y, test_mask=np.packbits(mask, axis=1), columns=['mass', 'width', 'one'])
  np.savez(folder / f'{name}.npz', **arrays | changes)
  return name


@pytest.mark.parametrize('scale', [1e9, 1e-9])
def test_training_data_do_not_depend_on_units(tmp_path, scale):
  """Standardised numbers are the same for every scale, and predictions return to their units."""

  def load(name):
    return splits.standardised(data.load(name, dir=str(tmp_path)))

  one, other = load(table_file(tmp_path, 'one')), load(table_file(tmp_path, 'other', scale))
  for part in ('train', 'valid', 'test'):
    arrays = [build.arrays(getattr(d, part), d) for d in (one, other)]
    np.testing.assert_allclose(arrays[0]['x'], arrays[1]['x'], atol=1e-5)
    np.testing.assert_allclose(arrays[0]['y'], arrays[1]['y'], atol=1e-5)
    assert not arrays[1]['x'][:, 2].any()  # the constant column is zero
  outputs = np.zeros((1, 2, 2), np.float32)
  predictive = families.gaussian.predictive(outputs)
  own = predictive.in_units(other.target_mean, other.target_std)
  np.testing.assert_allclose(own.mean(), [other.target_mean], rtol=1e-6)
  np.testing.assert_allclose(np.sqrt(own.variance()), [other.target_std], rtol=1e-5)


@pytest.mark.parametrize('mean, std', [(1e5, 1.0), (-3e8, 2.0), (0.0, 1e-20), (1e-12, 1e-18)])
def test_an_exported_student_keeps_small_differences_between_members(mean, std):
  """Float32 fails far from zero and in small units. The report's probes keep the digits, too."""
  outputs = np.random.default_rng(4).normal(0, 0.01, (5, 3, 2)).astype(np.float32)

  def freeze(variables):
    return members.Members(3, lambda x: jnp.asarray(variables['outputs']))

  spec = {'family': 'gaussian', 'objective': 'mean', 'objective_settings': {}, 'shape': [1]}
  spec |= {'target_mean': (mean,), 'target_std': (std,)}
  student = types.SimpleNamespace(freeze=freeze)
  model, x = Model(spec, student, {'outputs': outputs}), np.zeros((5, 1), np.float32)
  found = model.predict(x)
  mean_BM, log_var_BM = np.float64(outputs[..., 0]), np.float64(outputs[..., 1])
  np.testing.assert_allclose(found.mean[:, 0], mean + std * mean_BM.mean(1), rtol=1e-12)
  tight = dict(rtol=1e-5, atol=0)
  np.testing.assert_allclose(found.knowledge, std**2 * mean_BM.var(1), **tight)
  np.testing.assert_allclose(found.data, std**2 * np.exp(log_var_BM).mean(1), **tight)
  np.testing.assert_allclose(found.total, found.data + found.knowledge, **tight)
  np.testing.assert_allclose(
    metrics.of('gaussian').uncertainties(model.predictive(x))['knowledge'], found.knowledge
  )


def test_a_table_of_extreme_scales_and_one_test_row_runs_to_its_report(tmp_path):
  """The rank metrics of a test set of one example are null; they are not an error."""
  table_file(tmp_path, 'nasty', 1e9)
  c = config(
    data__name='nasty',
    data__dir=str(tmp_path),
    data__valid=1,
    evaluate__ood='default',
    teacher__members=2,
  )
  found = run.run(run.prepare(c, str(tmp_path / 'run')))
  metrics = {row['name']: row['metrics'] for row in found['rows']}
  for name in ('member', 'ensemble-2', 'student'):
    assert all(np.isfinite(metrics[name][key]) for key in ('rmse', 'nll', 'crps', 'coverage_90'))
    assert 1e6 < metrics[name]['rmse'] < 1e11  # in units of the target
  assert metrics['student']['agreement_knowledge'] is None
  assert (tmp_path / 'run' / 'report.html').exists()
  assert {'pit', 'coverage'} <= set(found['pictures'])


def test_a_column_that_was_constant_in_training_stays_where_it_is(tmp_path):
  """No perturbation moves the column, and its test values are scaled to those of the others."""
  rng = np.random.default_rng(0)
  x, y = rng.normal(0, 2, (60, 3)), rng.normal(0, 1, 60)
  x[:, 1] = 7.0
  x[50, 1] = 1e9
  np.savez(tmp_path / 'set.npz', x_train=x[:40], y_train=y[:40], x_test=x[40:], y_test=y[40:])
  dataset = data.load(f'npz:{tmp_path}/set.npz')
  assert dataset.space.unit[1] == 0 and (dataset.space.unit[[0, 2]] > 1).all()
  standard = splits.standardised(dataset)
  assert standard.space.unit.tolist() == [1, 0, 1] and standard.test.x.max() < 10
  batch = dataset.train.x[:8]
  apply = perturb.make('gaussian').apply
  moved = apply(jax.random.key(0), batch, None, None, families.gaussian, dataset.space)
  assert (moved[:, 1] == batch[:, 1]).all() and (moved[:, [0, 2]] != batch[:, [0, 2]]).all()
  gradient = rng.normal(0, 1, (8, 3)).astype(np.float32)
  step = np.asarray(perturb.ascend(batch, gradient, 0.5, dataset.space) - batch) / dataset.std
  assert (step[:, 1] == 0).all()
  np.testing.assert_allclose(np.linalg.norm(step, axis=1), 0.5 * 2**0.5, rtol=1e-4)
  still = dataset.space._replace(unit=np.zeros(3, np.float32))
  np.testing.assert_array_equal(perturb.ascend(batch, gradient, 0.5, still), batch)


def test_a_target_that_is_constant_after_splitting_is_refused(tmp_path):
  x, y = np.arange(6.0)[:, None], np.array([0.0, 0, 0, 0, 5, 5])
  np.savez(tmp_path / 'set.npz', x_train=x, y_train=y, x_test=x[:2], y_test=y[:2] + [0, 1])
  with pytest.raises(data.DataError, match='column 0 is constant in its only row'):
    data.load(f'npz:{tmp_path}/set.npz', valid=5)


def test_a_table_of_constant_columns_has_no_inputs_outside_of_its_range():
  toy, not_run = data.load('toy1d', size=16), {}
  still = data.Split(np.zeros_like(toy.train.x), toy.train.y)
  found = sets.inputs(tiny.replace(toy, train=still), 'outside', not_run)
  assert set(found) == {'valid', 'test'} and 'no column of toy1d varies' in not_run['ood/outside']
