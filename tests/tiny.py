"""A data set, a configuration and a loop small enough for tests of whole stages."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from ensdistill import distillation, mesh, nets, planning, teacher
from ensdistill.config import build, settings
from ensdistill.data.dataset import Dataset, Split
from ensdistill.logs import writers
from ensdistill.perturb import Space
from ensdistill.training import loop, step


def dataset(size=48, classes=3, shape=(8, 8, 1), seed=0) -> Dataset:
  """Images whose class is a bright band, with noise."""
  random = np.random.default_rng(seed)

  def split(n):
    y = np.arange(n, dtype=np.int32) % classes
    x = 0.3 * random.random((n, *shape), np.float32)
    for i, label in enumerate(y):
      x[i, 2 * label : 2 * label + 2] += 0.5
    return Split(x, y)

  return Dataset(
    name='tiny',
    train=split(size),
    valid=split(size // 2),
    test=split(size // 2),
    targets=classes,
    family='categorical',
    mean=(0.3,),
    std=(0.3,),
    space=Space(),
    target_mean=(0.0,),
    target_std=(1.0,),
    classes=None,
    fingerprint=f'tiny-{size}-{classes}-{shape}-{seed}',
  )


def config(**changes):
  """The defaults, shrunk; changes by flat name with __ for dots: student__kind='single'."""
  c = settings.default()
  small = {
    'name': 'tiny',
    'network.name': 'mlp',
    'network.hidden': (8,),
    'teacher.steps': 6,
    'teacher.members': 3,
    'teacher.batch_size': 16,
    'student.steps': 6,
    'student.batch_size': 16,
    'logs': 3,
    'scores': 2,
    'steps_per_call': 2,
    'evaluate.batch_size': 16,
    'evaluate.ood': 'none',
    'evaluate.shift': 'none',
  }
  c.update_from_flattened_dict(small | {k.replace('__', '.'): v for k, v in changes.items()})
  return c


# Settings of every network, and stages with all of its kinds of layers that soon compile together.
NETWORKS = {
  'mlp': (dict(hidden=(6, 5)), (0, -1)),
  'resnet': (dict(depth=8), (0, -1)),
  'wide_resnet': (dict(depth=10), (0, -1)),
  'vgg': (dict(depth=11, channels=4), (0, -2, -1)),
  'imagenet_resnet': (dict(depth=50, channels=4), (0, 4)),
  'vit': (dict(patch=2, depth=2, channels=8, heads=2), (0, -1)),
}


def backbone(name, *, shape=(8, 8, 1), mean=(0.3,), std=(0.4,), **settings) -> nets.Backbone:
  """A network cut down to a few of its stages."""
  own, keep = NETWORKS[name]
  whole = nets.build(name, shape=shape, mean=mean, std=std, **{**own, **settings})
  return replace(whole, stages=tuple(whole.stages[i] for i in keep))


def moved(module, x, *, amount=0.2, seed=1):
  """Variables of a module whose every leaf (scales, statistics, factors) is off its start."""
  variables = jax.eval_shape(module.init, jax.random.key(0), x)
  random = np.random.default_rng(seed)

  def leaf(path, a):
    near_one = path[-1].key in ('scale', 'var', 'r', 's')
    return np.float32(near_one + amount * random.normal(size=a.shape))

  return jax.tree_util.tree_map_with_path(leaf, variables)


def leaves(tree):
  """(path of names, leaf) of every leaf."""
  return [
    (tuple(key.key for key in path), leaf)
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
  ]


def plan(config, dataset, folder='unused', training=None) -> build.Plan:
  """Return the plan of a run on this data, with all of its parts."""
  return build.plan(config, build.parts(config), dataset, training or dataset, folder)


def checked_plan(config, dataset, folder='unused') -> build.Plan:
  """Return the plan of a run, after the checks of its configuration with its data."""
  return planning.plan(config, planning.parts(config), dataset, dataset, folder)


def untrained(plan):
  """Return a teacher and students with random parameters, for what does not depend on training."""
  example = jnp.zeros((1, *plan.dataset.shape))

  def stacked(method, seed, size):
    keys, orders = step.network_keys(jax.random.key(seed), range(size))
    return jax.device_get(step.start(keys, orders, method, example).variables)

  members = stacked(plan.teacher, 0, plan.config.teacher.members)
  ensemble = teacher.Teacher(plan.teacher, members, 'fingerprint', None, 'vmap')
  students = stacked(plan.student, 1, plan.config.seeds)
  return ensemble, distillation.Distilled(plan.student, students)


def running(size=1, batch=16, writer=None, **settings) -> loop.LoopSettings:
  """A loop over one device, silent."""
  device_mesh = mesh.make(size, batch, jax.devices()[:1])
  settings = {'steps_per_call': 2, 'logs': 3, 'scores': 2, **settings}
  return loop.LoopSettings(
    device_mesh, settings.pop('strategy', 'vmap'), writer or writers.Silent(), **settings
  )


def largest_difference(a, b) -> float:
  """Over all leaves of two trees of arrays."""
  pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
  return max(float(np.abs(np.asarray(p) - np.asarray(q)).max()) for p, q in pairs)


replace = dataclasses.replace
