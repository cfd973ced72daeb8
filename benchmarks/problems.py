"""What the benchmarks train: the recipes' methods on made-up inputs, run as the loop runs them."""

import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import timing
from ensdistill import data, members, mesh, nets, runtime
from ensdistill.config import build, recipes, settings
from ensdistill.logs import writers
from ensdistill.perturb import Space
from ensdistill.training import loop
from ensdistill.training import step as train

NETWORKS = {
  'mlp': dict(name='mlp', hidden=(100, 100)),
  'resnet20': dict(name='resnet', depth=20),
  'wrn10-1': dict(name='wide_resnet', depth=10, width=1),
  'wrn28-1': dict(name='wide_resnet', depth=28, width=1),
  'wrn28-4': dict(name='wide_resnet', depth=28, width=4),
}


class Row(NamedTuple):
  """A line of a table. The method 'teacher' trains M networks, any other a student of M of them."""

  network: str
  members: int
  batch: int
  method: str
  dtype: str = 'float32'

  def __str__(self):
    return f'{self.network} M={self.members} batch={self.batch} {self.method} {self.dtype}'


class Problem(NamedTuple):
  """All that the step of a row needs."""

  row: Row
  config: Any
  method: train.Method
  states: train.TrainState  # stacked: the members of a teacher, or one student
  loop: loop.Loop
  member: train.Method  # of one member of the teacher
  strategy: str  # of the teacher's members
  teachers: Any  # their stacked variables, None where they are what is trained
  arrays: dict  # the training set, on the device
  augment: Callable | None


def problem(row: Row, strategy: str = 'auto') -> Problem:
  """CIFAR-10's recipe for the row's method, with the row's network and one rate, on noise."""
  alone = row.method == 'teacher'
  config = recipes.make('single' if alone else row.method, 'cifar10')
  unset = dict.fromkeys(settings.optional(nets.NETWORKS))
  config.network.update(unset | NETWORKS[row.network] | {'dtype': row.dtype})
  if row.network == 'mlp':
    config.augment.update(crop=0, flip=False)
  config.teacher.update(members=row.members, batch_size=row.batch, strategy=strategy)
  config.student.batch_size = row.batch
  for section in (config.teacher, config.student):  # noise teaches little: gently, from step 0 on
    section.optimizer.update(schedule='constant', warmup=0.0, rate=0.01)
  noise = dataset((16,) if row.network == 'mlp' else (32, 32, 3))

  def prepared(section, method, seed, size):
    keys = train.keys(jax.random.key(seed), range(size))
    states = train.start(*keys, method, jnp.zeros((1, *noise.shape)))
    return states, build.loop(config, section, method, size, writers.Silent(), pathlib.Path())

  member = method = build.teacher_method(config, noise)
  states, running = prepared(config.teacher, member, 0, row.members)
  teachers, strategy = None, running.strategy
  if not alone:
    size, steps = build.student_size(config), build.steps(config.student, len(noise.train.x))
    method = build.student_method(config, noise, size, config.objective.name, steps)
    teachers = states.variables
    states, running = prepared(config.student, method, 1, 1)
  arrays, augment = build.arrays(noise.train, noise), build.augmentation(config)
  return Problem(row, config, method, states, running, member, strategy, teachers, arrays, augment)


def dataset(shape, size: int = 1024, classes: int = 10) -> data.Dataset:
  """Noise: uint8 images, or rows of a table."""
  random = np.random.default_rng(0)
  x = random.random((size, *shape), np.float32)
  x = (256 * x).astype(np.uint8) if len(shape) == 3 else x
  split = data.Split(x, random.integers(0, classes, size, np.int32))
  return data.Dataset(
    name='noise',
    train=split,
    valid=split,
    test=split,
    targets=classes,
    family='categorical',
    mean=(0.5,),
    std=(0.3,),
    space=Space(),
    target_mean=(0.0,),
    target_std=(1.0,),
    classes=None,
    fingerprint='noise',
  )


def ours(problem: Problem) -> timing.Contender:
  """The loop's own program; a turn is one call of it."""
  method, device_mesh = problem.method, problem.loop.mesh

  @jax.jit
  def step(state, arrays, teachers):
    batch = train.draw(
      arrays, state.order, state.step, batch=problem.row.batch, augment=problem.augment
    )
    batch = mesh.split_batch(device_mesh, batch)
    return train.train_step(state, batch, teachers and frozen(problem, teachers), method)

  def lift(function):
    return mesh.over_members(members.lift(function, problem.loop.strategy), device_mesh)

  replicated, by_member = mesh.replicated(device_mesh), mesh.by_member(device_mesh)
  shared = mesh.place((problem.arrays, problem.teachers), replicated)
  states = mesh.place(jax.tree.map(jnp.copy, problem.states), by_member)  # the program takes them
  blank = mesh.place(loop.blank_logs(lift(step), states, shared), by_member)
  count = lambda n: mesh.place(np.int32(n), replicated)
  program, seconds, gigabytes = timing.compiled(
    loop.program(step, lift), states, blank, count(1), *shared, options=runtime.options()
  )

  def run(n):
    nonlocal states
    states, logs = program(states, blank, count(n), *shared)
    jax.block_until_ready(logs)

  return timing.Contender(run, seconds, gigabytes)


def inputs(problem: Problem) -> timing.Contender:
  """What comes before a step, many of them in a program, as in the loop's: batches, augmented.

  All values are summed, so that the compiler leaves none out: that counts as well.
  """
  batch, augment = problem.row.batch, problem.augment

  def draw(state, arrays, count):
    def add(i, total):
      drawn = train.draw(arrays, state.order, state.step + i, batch=batch, augment=augment)
      return total + sum(values.astype(jnp.float32).sum() for values in drawn.values())

    return jax.lax.fori_loop(0, count, add, jnp.float32(0))

  lifted = members.lift(draw, problem.loop.strategy)
  arguments = jax.device_put((problem.states, problem.arrays))
  program, *_ = timing.compiled(jax.jit(lifted), *arguments, 1, options=runtime.options())
  return timing.Contender(lambda count: jax.block_until_ready(program(*arguments, count)))


def frozen(problem: Problem, teachers) -> members.Members:
  return members.frozen(problem.member.student.module.apply, teachers, problem.strategy)


def useful_flops(problem: Problem) -> float:
  """The least floating-point operations of a step, as passes through one member's network.

  A training pass counts three forward ones, a gradient by the inputs two. The perturbations need
  the gradient of one member of each network that they look at, and where they compare two members
  the other's outputs.
  """
  row, method = problem.row, problem.method
  module = nets.with_form(problem.member.student.module, 'plain')
  variables = members.take(problem.states if problem.teachers is None else problem.teachers, 0)
  variables = variables.variables if problem.teachers is None else variables
  x = jnp.zeros((1, *module.backbone.shape))
  forward = jax.jit(module.apply).lower(variables, x).cost_analysis()['flops']
  if problem.teachers is None:
    passes = 3 * row.members
  else:
    moved = method.perturbation and method.perturbation.name
    labels_too = bool(method.perturbation and method.label_weight and method.labels_on_clean)
    training = 3 * method.student.size * (1 + labels_too)
    passes = (
      training + row.members + {None: 0, 'gaussian': 0, 'tdiv': 3, 'tdiv_sdiv': 6}.get(moved, 2)
    )
  return forward * passes * row.batch
