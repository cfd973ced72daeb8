"""Compile training steps for TPU v5e chips, on a machine without a TPU, and count what they do.

  pip install 'jax[tpu]'    # brings libtpu, which holds the compiler
  python -m benchmarks.tpu [--quick] [--json=FILE] [--minutes=25] [--only=TEXT]

Each row is the step of a recipe on one chip or on several ('2x4' and '8x8' are topologies), ours
and `plain`, the same mathematics in JAX as it is usually written (see steps.py). FLOPs and bytes
are those of one chip, from XLA's cost analysis, whose bytes include reads and writes of the chip's
vector memory. Bytes to and from HBM, the chip's main memory, are counted in the program's text.
Memory is that of XLA's plan for arguments, results and temporaries. Collectives and HBM bytes of a
loop count once per turn; XLA's FLOPs and bytes count it once, so those of a row with microbatches
are too small. Nothing runs, so the only time here is that of compiling. With --json, a second call
continues where the first stopped.
"""

import dataclasses
import importlib.metadata
import importlib.util
import os
import pathlib
import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import hlo, problems, steps, timing
from ensdistill import data, members, mesh, nets, runtime
from ensdistill.config import build, recipes, settings
from ensdistill.method import Method
from ensdistill.training import step as train
from ensdistill.training.feed import OnDevice, Streamed

# An 8-chip host that no network reaches; libtpu asks for them.
ENVIRONMENT = {
  'TPU_SKIP_MDS_QUERY': '1',
  'TPU_WORKER_HOSTNAMES': 'localhost',
  'TPU_WORKER_ID': '0',
  'TPU_ACCELERATOR_TYPE': 'v5litepod-8',
  'ALLOW_MULTIPLE_LIBTPU_LOAD': '1',  # several compilers at a time
}
FORM = 'tpu'  # of the layers, which 'auto' does not choose on this machine
CHIPS = {'1': '2x4', '2x4': '2x4', '8x8': '8x8'}  # of a row -> the topology that has them


class Row(NamedTuple):
  """A row of the table: the step of a method on chips, with memory settings of the student."""

  network: str
  members: int
  batch: int
  method: str
  chips: str = '1'
  dtype: str = 'bfloat16'
  remat: bool = False
  microbatches: int = 1
  strategy: str = 'vmap'  # of the teacher's members

  def __str__(self):
    saved = ' remat' * self.remat + f' microbatches={self.microbatches}' * (self.microbatches > 1)
    return (
      f'{self.network} M={self.members} batch={self.batch} {self.method} {self.dtype} '
      f'chips={self.chips}{saved}'
    )


PERTURBED = steps.PERTURBED
ROWS = {
  'quick': [Row('wrn10-1', 2, 8, 'kd', chips) for chips in ('1', '2x4')],
  'cpu': [
    *[Row('wrn28-1', 4, 128, method) for method in PERTURBED],
    Row('resnet20', 1, 128, 'teacher'),
    *[Row('wrn28-1', 4, 1024, method, '2x4') for method in PERTURBED],
    Row('wrn28-1', 4, 1024, 'teacher', '2x4'),
    *[Row('wrn28-1', 4, 8192, method, '8x8') for method in PERTURBED],
    Row('resnet50', 16, 1024, 'be_kd', '2x4', remat=True, microbatches=8),
  ],
}


class Step(NamedTuple):
  """A training step with the shapes of its arguments; nothing in it holds data."""

  method: Method
  states: train.TrainState  # stacked shapes
  seen: Any  # shapes of what the feed yields
  feed: Any
  teachers: Any  # stacked shapes, or None
  freeze: Any  # teachers -> Members
  mesh: Any


def available() -> bool:
  """Return whether libtpu is installed, or named by the environment."""
  return 'TPU_LIBRARY_PATH' in os.environ or importlib.util.find_spec('libtpu') is not None


def chips(name: str, count: int | None = None):
  """Return the devices of a topology of v5e chips; there need be none."""
  from jax.experimental import topologies

  if not available():
    raise SystemExit(
      "no TPU compiler: pip install 'jax[tpu]', or set TPU_LIBRARY_PATH to libtpu.so"
    )
  for variable, value in ENVIRONMENT.items():
    os.environ.setdefault(variable, value)
  found = topologies.get_topology_desc(platform='tpu', topology_name=f'v5e:{name}').devices
  return found[:count]


def step_of(plan, devices, *, alone: bool, strategy: str = 'vmap', form: str = FORM) -> Step:
  """Return the step of a plan's students, or of its teacher alone, for these devices."""
  config, example = plan.config, jnp.zeros((1, *plan.dataset.shape))
  member = _with_form(plan.teacher, form)
  method = member if alone else _with_form(plan.student, form)
  section = config.teacher if alone else config.student
  size = config.teacher.members if alone else config.seeds
  where = mesh.make(size, section.batch_size // method.microbatches, devices)

  def states(method, size):
    keys, orders = train.network_keys(jax.random.key(0), range(size))
    shapes = jax.eval_shape(jax.vmap(lambda key: method.student.module.init(key, example)), keys)

    def start(keys, orders, variables):
      return train.start(keys, orders, method, example, variables)

    return jax.eval_shape(start, keys, orders, shapes)

  def freeze(teachers):
    return members.frozen(member.student.module.apply, teachers, strategy)

  teachers = None if alone else states(member, config.teacher.members).variables
  feed: Any = OnDevice(
    build.arrays(plan.dataset.train, plan.dataset), section.batch_size, plan.parts.augment.images
  )
  seen = feed.arrays
  if plan.dataset.shape[0] >= 64:  # large images stream
    seen, feed = _streamed(feed)
  return Step(method, states(method, size), seen, feed, teachers, freeze, where)


def _streamed(feed: OnDevice):
  arrays = {
    name: jax.ShapeDtypeStruct((1, feed.batch, *values.shape[1:]), values.dtype)
    for name, values in feed.arrays.items()
  }
  orders = jax.ShapeDtypeStruct((1, 2), np.uint32)
  none: Any = None  # nothing reads the stream itself
  return data.Batch(arrays, orders), Streamed(none, feed.batch, feed.augment)


def _with_form(method: Method, form: str) -> Method:
  student = method.student
  return dataclasses.replace(
    method,
    student=dataclasses.replace(student, module=nets.with_form(student.module, form)),
  )


def ours(step: Step):
  """Return the lowered step of the training loop."""
  where = step.mesh

  def one(state, seen, teachers):
    batch = mesh.split_batch(where, step.feed.draw(seen, state))
    return train.train_step(state, batch, teachers and step.freeze(teachers), step.method)

  lifted = mesh.over_members(members.lift(one, 'vmap'), where)
  sharding = mesh.by_example(where) if isinstance(step.feed, Streamed) else mesh.replicated(where)
  seen = _shapes(step.seen, sharding)
  if isinstance(step.feed, Streamed):
    seen = seen._replace(orders=_shapes(step.seen.orders, mesh.replicated(where)))
  with jax.sharding.use_abstract_mesh(where.abstract_mesh):  # layers ask for the devices
    return jax.jit(lifted, donate_argnums=0).lower(
      _shapes(step.states, mesh.by_member(where)),
      seen,
      _shapes(step.teachers, mesh.replicated(where)),
    )


def plain(problem, step: Step):
  """Return the lowered step of one network as it is usually written; the batch is an argument."""
  where = step.mesh

  def without_member_axis(tree):
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), tree)

  teachers = [without_member_axis(step.teachers)] * problem.row.members if step.teachers else []
  batch = {
    'x': jax.ShapeDtypeStruct(
      (problem.row.batch, *step.method.student.module.backbone.shape), np.float32
    ),
    'y': jax.ShapeDtypeStruct((problem.row.batch,), np.int32),
  }
  by_batch = jax.sharding.NamedSharding(where, jax.sharding.PartitionSpec('data'))
  function = jax.jit(lambda *arguments: steps.plain_step(problem, *arguments), donate_argnums=0)
  replicated = mesh.replicated(where)
  return function.lower(
    _shapes(without_member_axis(step.states), replicated),
    _shapes(batch, by_batch),
    _shapes(teachers, replicated),
  )


def _shapes(tree, sharding):
  """Return the shapes of a tree of arrays or shapes, placed by a sharding."""
  return jax.tree.map(
    lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), tree
  )


def compiled(lowered) -> dict:
  """Compile a lowered program; return what it does on one device."""
  began = time.perf_counter()
  program = runtime.uncached(lowered.compile)()  # no process here could read it back
  seconds, cost, memory = (
    time.perf_counter() - began,
    program.cost_analysis(),
    program.memory_analysis(),
  )
  text = program.as_text()
  held = memory.argument_size_in_bytes + memory.output_size_in_bytes - memory.alias_size_in_bytes
  return {
    'compile_seconds': seconds,
    'flops': cost['flops'],
    'bytes': cost['bytes accessed'],
    'hbm_bytes': hlo.traffic(text),
    'memory': held + memory.temp_size_in_bytes,
    'temporary': memory.temp_size_in_bytes,
    'collectives': hlo.collectives(text),
  }


# ---- the table


def plan_of(row: Row):
  """Return the plan of a row: a recipe with its network and noise of the data's shape."""
  alone, large = row.method == 'teacher', row.network == 'resnet50'
  config = recipes.make('single' if alone else row.method, 'imagenet' if large else 'cifar10')
  unset = dict.fromkeys(settings.optional(nets.NETWORKS))
  network = dict(name='imagenet_resnet', depth=50) if large else problems.NETWORKS[row.network]
  config.network.update(unset | network | {'dtype': row.dtype, 'remat': row.remat or None})
  config.augment.crop_area = None
  config.teacher.update(members=row.members, batch_size=row.batch)
  config.student.update(batch_size=row.batch, microbatches=row.microbatches)
  noise = problems.dataset((32, 32, 3))
  if large:
    x = np.broadcast_to(np.uint8(0), (row.batch, 224, 224, 3))
    split = data.Split(x, np.zeros(row.batch, np.int32))
    noise = dataclasses.replace(noise, train=split, valid=split, test=split, targets=1000)
  elif row.batch > len(noise.train.x):
    noise = problems.dataset((32, 32, 3), row.batch)
  return build.plan(config, build.parts(config), noise, noise, 'unused')


def measure(row: Row, seconds: float, turn: float) -> dict:
  """Compile the step of a row, ours and plain."""
  del seconds, turn
  alone = row.method == 'teacher'
  devices = chips(CHIPS[row.chips], 1 if row.chips == '1' else None)
  plan = plan_of(row)
  step = step_of(plan, devices, alone=alone, strategy=row.strategy)
  found = {'ours': compiled(ours(step))}
  if row.network != 'resnet50' and not (alone and row.members > 1):
    unused: Any = None
    problem = problems.Problem(
      problems.Row(row.network, row.members, row.batch, row.method, row.dtype),
      plan.config, step.method, step.states, unused, plan.teacher, 'vmap', step.teachers, step.feed,
    )  # fmt: skip
    found['plain'] = compiled(plain(problem, step))
  one = jax.tree.leaves(step.states.params)
  return {
    'row': row._asdict(),
    'libtpu': _libtpu(),
    'mesh': dict(step.mesh.shape),
    'gradient_bytes': sum(4 * leaf.size for leaf in one) // step.mesh.shape['member'],
    'programs': found,
  }


def _libtpu() -> str:
  try:
    return importlib.metadata.version('libtpu')
  except importlib.metadata.PackageNotFoundError:
    folder = pathlib.Path(os.environ['TPU_LIBRARY_PATH']).parent.parent
    return next((p.name.split('-')[1] for p in folder.glob('libtpu-*.dist-info')), 'unknown')


HEAD = [
  'network', 'M', 'batch', 'method', 'chips', 'settings', 'TFLOP', 'GB', 'GB of HBM',
  'GB of memory', 'collectives', 'of a gradient', 'compile s', 'plain: TFLOP, × ours', 'GB, × ours',
  'GB of HBM, × ours', 'GB of memory', 'its compile s',
]  # fmt: skip


def table(rows: dict[str, dict]) -> str:
  """Return the rows as Markdown."""
  lines = []
  for found in rows.values():
    row, who = Row(**found['row']), found['programs']
    one, other = who['ours'], who.get('plain')
    called = ', '.join(f'{count} {kind}' for kind, (count, _) in one['collectives'].items())
    moved = sum(size for _, size in one['collectives'].values()) / found['gradient_bytes']
    options = ['remat'] * row.remat + [f'{row.microbatches} microbatches'] * (row.microbatches > 1)
    lines.append([
      f'{row.network} {row.dtype}', str(row.members), f'{row.batch:,}', row.method, row.chips,
      ', '.join(options) or '–', one['flops'] / 1e12, one['bytes'] / 1e9, one['hbm_bytes'] / 1e9,
      one['memory'] / 1e9,
      called or '–', moved if called else None, one['compile_seconds'],
      *[other and other[name] / one[name] for name in ('flops', 'bytes', 'hbm_bytes')],
      other and other['memory'] / 1e9, other and other['compile_seconds'],
    ])  # fmt: skip
  return timing.markdown(HEAD, lines)


if __name__ == '__main__':
  jax.config.update('jax_platforms', 'cpu')
  timing.command(__doc__, ROWS, measure, table)
