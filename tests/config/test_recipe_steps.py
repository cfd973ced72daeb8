"""A step of every recipe has shapes: teacher's and student's, on drawn and augmented batches."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import shaped
import tiny

from ensdistill import data, members, nets
from ensdistill.config import build, identity, inputs, recipes
from ensdistill.training import step as train


@pytest.fixture
def few_stages(monkeypatch):
  """Build networks of a few of their repeated stages, so that a step is traced soon."""
  whole = nets.build

  def cut(name, **settings):
    backbone, (_, keep) = whole(name, form='plain', **settings), tiny.NETWORKS[name]
    return tiny.replace(backbone, stages=tuple(backbone.stages[i] for i in keep))

  monkeypatch.setattr(nets, 'build', cut)


def state_of(method, shape):
  """Return the shapes of a network in training."""

  def state():
    variables = method.student.module.init(jax.random.key(0), jnp.zeros((1, *shape)), False)
    params, stats = variables['params'], variables.get('batch_stats', {})
    key = jax.random.key(0)
    return train.TrainState(jnp.int32(0), params, stats, method.optimizer.init(params), key, key)

  return jax.eval_shape(state)


def check_step(plan, section, arrays, method, teacher=None):
  """Trace a step as a run does it, on a drawn and augmented batch.

  `teacher` is the function that freezes it, and its variables.
  """
  orders = jax.random.split(jax.random.key(0), 1)
  feed = plan.feed(section, arrays, orders, method.steps)
  freeze, variables = teacher or (None, None)

  def step(state, seen, variables):
    return train.train_step(state, feed.draw(seen, state), freeze and freeze(variables), method)

  before = state_of(method, plan.training.shape)
  after, logs = jax.eval_shape(step, before, feed.shapes, variables)
  assert logs['loss'].shape == ()
  assert jax.tree.map(lambda s: s.shape, after) == jax.tree.map(lambda s: s.shape, before)
  return before


_members: dict = {}  # shared by the recipes with one teacher


@functools.cache
def files_by_step():
  """Return {what a step computes: a config file}, one of those that differ in sizes alone."""
  files = {}
  for name in reversed(shaped.FILES):
    config = recipes.named(name)
    sections = ('student', 'objective', 'perturb')
    flat = identity.flatten({s: identity.to_json(config)[s] for s in sections})
    flat |= {'network': config.network.name, 'family': shaped.dataset(config.data.name).family}
    flat |= {'aux': bool(config.data.aux), 'streams': shaped.dataset(config.data.name).streams}
    flat |= {'augment': bool(inputs.augmentation(config))}
    sizes = ('student.steps', 'student.epochs', 'student.batch_size')
    plain = {k: bool(v) if isinstance(v, float) or k in sizes else v for k, v in flat.items()}
    files[str(sorted(plain.items()))] = name
  return files


@pytest.mark.parametrize('name', sorted(files_by_step().values()))
def test_the_steps_of_every_config_have_shapes(name, few_stages):
  """Trace both with the draws, augmentation, auxiliary inputs and targets of a run."""
  config = recipes.named(name)
  clean = shaped.dataset(config.data.name)
  auxiliary = np.zeros((16, *clean.shape), np.uint8)
  training = data.join(clean, auxiliary) if config.data.aux else clean
  plan = tiny.plan(config, clean, training=training)
  teacher = plan.teacher
  shared = str((clean.name, config.network, config.teacher, config.augment))
  if shared not in _members:
    arrays = build.arrays(clean.train, clean)
    _members[shared] = check_step(plan, config.teacher, arrays, teacher)
  stacked = jax.tree.map(
    lambda s: jax.ShapeDtypeStruct((config.teacher.members, *s.shape), s.dtype),
    _members[shared].variables,
  )
  freeze = lambda variables: members.frozen(teacher.student.module.apply, variables)

  arrays = build.arrays(training.train, training)
  frozen = freeze, stacked
  if config.student.targets != 'online':
    outputs = lambda variables, x: freeze(variables).outputs(data.as_input(x))
    arrays['teacher_outputs'] = jax.eval_shape(outputs, stacked, training.train.x)
    frozen = None
  for phase in plan.phases:
    check_step(plan, config.student, arrays, phase.method, frozen)
