"""Training problems of the benchmarks: methods of the recipes on noise, run as the loop does."""

import inspect
import json
import pathlib
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import timing
from ensdistill import data, members, mesh, nets, runtime
from ensdistill.config import build, recipes, settings
from ensdistill.logs import writers
from ensdistill.method import Method
from ensdistill.perturb import Space
from ensdistill.training import loop
from ensdistill.training import step as train
from ensdistill.training.feed import OnDevice
from ensdistill.training.logs import Logs

TRAINING_SET = 50_000  # examples of CIFAR-10, which give a recipe's epochs their steps
NETWORKS: dict[str, dict[str, Any]] = {
  'mlp': dict(name='mlp', hidden=(100, 100)),
  'resnet20': dict(name='resnet', depth=20),
  'wrn10-1': dict(name='wide_resnet', depth=10, width=1),
  'wrn28-1': dict(name='wide_resnet', depth=28, width=1),
  'wrn28-4': dict(name='wide_resnet', depth=28, width=4),
}


class Row(NamedTuple):
  """A row of a table. The method 'teacher' trains M networks, any other a student of M teachers."""

  network: str
  members: int
  batch: int
  method: str
  dtype: str = 'float32'

  def __str__(self):
    return f'{self.network} M={self.members} batch={self.batch} {self.method} {self.dtype}'


class Problem(NamedTuple):
  """Everything that the step of a row needs."""

  row: Row
  config: Any
  method: Method
  states: train.TrainState  # stacked: a teacher's members, or one student
  loop: loop.LoopSettings
  member: Method  # of one member of the teacher
  strategy: str  # for the teacher's members
  teachers: Any  # stacked variables; None if the teacher itself is trained
  feed: OnDevice  # the training set


def problem(row: Row, strategy: str = 'auto') -> Problem:
  """Return CIFAR-10's recipe for the row's method and network, with one rate, on noise."""
  alone = row.method == 'teacher'
  config = recipes.make('single' if alone else row.method, 'cifar10')
  unset = dict.fromkeys(settings.optional(nets.NETWORKS))
  config.network.update(unset | NETWORKS[row.network] | {'dtype': row.dtype})
  if row.network == 'mlp':
    config.augment.update(crop=0, flip=False)
  # Networks of a teacher are started below: a run's limit on their number does not bind here.
  teachers_of_student = 1 if alone else row.members
  config.teacher.update(members=teachers_of_student, batch_size=row.batch, strategy=strategy)
  config.student.batch_size = row.batch
  for section in (config.teacher, config.student):  # a low constant rate suits noise
    section.optimizer.update(schedule='constant', warmup=0.0, rate=0.01)
    epoch = data.sampler.steps_per_epoch(TRAINING_SET, section.batch_size)
    section.update(steps=section.steps or section.epochs * epoch, epochs=0)
  noise = dataset((16,) if row.network == 'mlp' else (32, 32, 3))

  plan = build.plan(config, build.parts(config), noise, noise, 'unused')

  def prepared(section, method, seed, size):
    keys, orders = train.network_keys(jax.random.key(seed), range(size))
    states = train.start(keys, orders, method, jnp.zeros((1, *noise.shape)))
    return states, plan.loop(section, method, size, writers.Silent())

  member = method = plan.teacher
  states, running = prepared(config.teacher, member, 0, row.members)
  teachers, strategy = None, running.strategy
  if not alone:
    method, teachers = plan.student, states.variables
    states, running = prepared(config.student, method, 1, 1)
  feed = OnDevice(build.arrays(noise.train, noise), row.batch, plan.parts.augment.images)
  return Problem(row, config, method, states, running, member, strategy, teachers, feed)


def dataset(shape, size: int = 1024, classes: int = 10) -> data.Dataset:
  """Return noise: uint8 images, or rows of a table."""
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
  """Return the loop's own program; a turn is one call. The recipe's length decides on oneDNN."""
  method, device_mesh = problem.method, problem.loop.mesh

  @jax.jit
  def step(state, arrays, teachers):
    batch = mesh.split_batch(device_mesh, problem.feed.draw(arrays, state))
    return train.train_step(state, batch, teachers and frozen(problem, teachers), method)

  def lift(function):
    return mesh.over_members(members.lift(function, problem.loop.strategy), device_mesh)

  replicated, by_member = mesh.replicated(device_mesh), mesh.by_member(device_mesh)
  shared = mesh.place((problem.feed.arrays, problem.teachers), replicated)
  states = mesh.place(jax.tree.map(jnp.copy, problem.states), by_member)  # donated
  blank = mesh.place(Logs.blank(lift(step), states, shared), by_member)

  def placed_count(n):
    return mesh.place(np.int32(n), replicated)

  options = runtime.options() | (runtime.ONEDNN if problem.loop.onednn else {})
  advance = loop.program(step, lift, calls_onednn=problem.loop.onednn)
  if problem.loop.onednn:
    advance = inspect.unwrap(advance, stop=lambda f: hasattr(f, 'lower'))  # under `uncached`
  program, seconds, gigabytes = timing.compiled(
    advance, states, blank, placed_count(1), *shared, options=options
  )

  def run(n):
    nonlocal states
    states, logs = program(states, blank, placed_count(n), *shared)
    jax.block_until_ready(logs)

  return timing.Contender(run, seconds, gigabytes)


def inputs(problem: Problem) -> timing.Contender:
  """Return a program that draws and augments batches, many in one call, as the loop does.

  All values are summed so that the compiler removes none; the time of the sum is included.
  """

  def draw(state, arrays, count):
    def add(i, total):
      drawn = problem.feed.draw(arrays, state._replace(step=state.step + i))
      return total + sum(values.astype(jnp.float32).sum() for values in drawn.values())

    return jax.lax.fori_loop(0, count, add, jnp.float32(0))

  lifted = members.lift(draw, problem.loop.strategy)
  arguments = jax.device_put((problem.states, problem.feed.arrays))
  program, *_ = timing.compiled(jax.jit(lifted), *arguments, 1, options=runtime.options())
  return timing.Contender(lambda count: jax.block_until_ready(program(*arguments, count)))


def frozen(problem: Problem, teachers) -> members.Members:
  return members.frozen(problem.member.student.module.apply, teachers, problem.strategy)


def eager_spec(problem: Problem) -> dict[str, Any]:
  """Return what PyTorch's step needs to know of a problem, in JSON's types."""
  config, method, backbone = problem.config, problem.method, problem.member.student.module.backbone
  section = config.teacher if problem.teachers is None else config.student
  paths = jax.tree_util.tree_leaves_with_path(problem.states.params)
  names = [tuple(key.key for key in path) for path, _ in paths]
  return {
    'batch': problem.row.batch,
    'device': 'cuda' if jax.default_backend() == 'gpu' else 'cpu',
    'dtype': problem.row.dtype,
    'factors': ['/'.join(name) for name in names if method.student.group(name) == 'factors'],
    'label_weight': method.label_weight,
    'mean': backbone.mean[0],
    'members': problem.row.members,
    'network': config.network.name,
    'objective': config.objective.name,
    'optimizer': {name: value for name, value in section.optimizer.items() if value is not None},
    'perturbation': method.perturbation.name if method.perturbation else None,
    'soften': config.perturb.temperature,
    'stages': [name for name, _ in backbone.stages],
    'std': backbone.std[0],
    'temperature': config.objective.temperature,
  }


def for_eager(problem: Problem, folder: pathlib.Path) -> None:
  """Store a problem for `eager.load`: its spec, and its networks, teachers and data as arrays."""
  arrays: dict[str, Any] = {name: np.asarray(problem.feed.arrays[name]) for name in ('x', 'y')}
  for kind, tree in (('networks', problem.states.variables), ('teachers', problem.teachers)):
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
      arrays['/'.join([kind, *(key.key for key in path)])] = np.asarray(leaf)
  np.savez(folder / 'arrays.npz', **arrays)
  (folder / 'spec.json').write_text(json.dumps(eager_spec(problem)))


def useful_flops(problem: Problem) -> float:
  """Return the fewest floating-point operations of a step, counted in forward passes of one member.

  A training pass counts as three forward passes, a gradient by the inputs as two. A perturbation
  needs the gradient of one member of each network that it uses and, if it compares two members,
  the outputs of the other one.
  """
  row, method = problem.row, problem.method
  module = nets.with_form(problem.member.student.module, 'plain')
  variables = members.take(problem.states if problem.teachers is None else problem.teachers, 0)
  variables = variables.variables if problem.teachers is None else variables
  x = jnp.zeros((1, *module.backbone.shape))
  costs: Any = jax.jit(module.apply).lower(variables, x).cost_analysis()
  if problem.teachers is None:
    passes = 3 * row.members
  else:
    moved = method.perturbation.name if method.perturbation else None
    training = 3 * method.student.size * (1 + method.labels_apart)
    passes = (
      training + row.members + {None: 0, 'gaussian': 0, 'tdiv': 3, 'tdiv_sdiv': 6}.get(moved, 2)
    )
  return costs['flops'] * passes * row.batch
