"""A step of a recipe, traced as a run does it: teacher's and student's."""

import jax
import jax.numpy as jnp
import numpy as np
import shaped
import tiny

from ensdistill import data, members
from ensdistill.config import build
from ensdistill.training import step as train

_members: dict = {}  # shared by the recipes with one teacher


def few_stages(build, name, **settings):
  """Build a network of a few of its repeated stages, so that a step is traced soon."""
  backbone, (_, keep) = build(name, form='plain', **settings), tiny.NETWORKS[name]
  kept = {i % len(backbone.stages) for i in keep}
  kept |= {i for i, (name, _) in enumerate(backbone.stages) if name == 'pool'}
  return tiny.replace(backbone, stages=tuple(backbone.stages[i] for i in sorted(kept)))


def check(config):
  """Trace both with the draws, augmentation, auxiliary inputs and targets of a run."""
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

  def freeze(variables):
    return members.frozen(teacher.student.module.apply, variables)

  arrays = build.arrays(training.train, training)
  frozen = freeze, stacked
  if config.student.targets != 'online':

    def outputs(variables, x):
      return freeze(variables).outputs(data.as_input(x))

    arrays['teacher_outputs'] = jax.eval_shape(outputs, stacked, training.train.x)
    frozen = None
  for phase in plan.phases:
    check_step(plan, config.student, arrays, phase.method, frozen)


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
