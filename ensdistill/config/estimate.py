"""The memory that a run needs, from shapes alone, before anything compiles.

A lower estimate, so that no run that fits is refused. It counts the networks (parameters,
optimiser, the best ones so far), one gradient and the activations that a step keeps for it, the
data on the device, the teacher while a student trains, stored teacher outputs, and one block of the
evaluation. XLA keeps fewer activations than the program names, because it computes some again:
_KEPT of them count.
"""

import collections
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ensdistill import memory, mesh
from ensdistill.config import build
from ensdistill.config.build import Plan
from ensdistill.config.settings import KEPT
from ensdistill.data.images import stored
from ensdistill.members import CHUNK
from ensdistill.method import Method

_KEPT = 0.3  # share of the activations that is counted
LARGE = 0.25  # share of a device's memory; a larger teacher is split over the devices
_STREAMED = 4  # number of batches of a stream on the device


class StageMemory(NamedTuple):
  """The bytes that one stage of a run needs, by part."""

  name: str
  device: dict[str, int]
  host: dict[str, int]

  def shared(self, devices: int) -> 'StageMemory':
    """Return the same stage for devices that lie in the host's memory."""
    parts = {part: size * devices for part, size in self.device.items()}
    for part, size in self.host.items():
      if part != 'checkpoint':
        parts[part] = parts.get(part, 0) + size
    return StageMemory(self.name, parts, {})


class Footprint(NamedTuple):
  """The bytes of one network: its variables, its whole state, and what a step keeps."""

  variables: int
  parameters: int
  state: int
  activations: int


def check(plan: Plan) -> None:
  """Raise ValueError if a stage needs more memory than there is."""
  device = jax.local_devices()[0]
  free, on_host = memory.of_device(device), memory.available()
  shared = device.platform == 'cpu'  # the devices lie in the host's memory
  for stage in stages(plan):
    if shared:  # a checkpoint is written from where the networks are
      stage = stage.shared(jax.local_device_count())
    _refuse(stage, stage.device, free, 'the host' if shared else 'a device')
    _refuse(stage, stage.host, on_host, 'the host')


def stages(plan: Plan) -> list[StageMemory]:
  """Return what the training of the teacher, of each phase of the student, and evaluation need."""
  config = plan.config
  count = config.teacher.members
  every_stage = []
  if plan.given:  # trained elsewhere
    leaves = jax.tree.leaves(getattr(plan.given, 'variables', ()))
    variables = [leaf for leaf in leaves if isinstance(leaf, np.ndarray | jax.Array)]
    teacher = Footprint(size_of(variables) // max(count, 1), 0, 0, 0)
  else:
    teacher = of_network(plan.teacher, plan.dataset.shape, _at_once(plan.teacher, config.teacher))
    together = min(config.teacher.together or count, count)
    every_stage.append(_training(plan, 'teacher', config.teacher, plan.teacher, teacher, together))
  network = teacher
  for phase in plan.phases:
    method, section = phase.method, config.student
    network = of_network(method, plan.training.shape, _at_once(method, section))
    stage = _training(plan, phase.name, section, method, network, config.seeds)
    if section.targets in KEPT:
      outputs = plan.teacher.family.width(plan.dataset.targets)
      size = len(plan.training.train.x) * count * outputs * 4
      stage.device['teacher outputs'] = stage.host['teacher outputs'] = size
    elif method.needs_teacher:
      parts = mesh.make(config.seeds, _at_once(method, section)).shape['data']
      shared = shares_teacher(plan, parts, count * teacher.variables)
      stage.device['members'] = count * teacher.variables // (parts if shared else 1)
    stage.host['members'] = count * teacher.variables
    every_stage.append(stage)
  every_stage.append(_evaluation(plan, teacher, network))
  return every_stage


def _at_once(method: Method, section) -> int:
  """Return the number of examples whose activations are in memory at the same time."""
  return section.batch_size // method.microbatches


def shares_teacher(plan: Plan, devices: int, size: int) -> bool:
  """Return whether a teacher of this size is split over the devices of a batch.

  By default, teachers that need more than a quarter of a device's memory are split.
  """
  if devices == 1 or plan.given:
    return False
  if plan.config.teacher.sharded is not None:
    return plan.config.teacher.sharded
  limit = memory.limit_of_device()
  return limit is not None and size > LARGE * limit


def of_network(method: Method, shape: tuple[int, ...], batch: int) -> Footprint:
  """Return what one network of a method takes, with the activations of a batch; only traced."""
  params, others, activations = _traced(method.student.module, tuple(shape), batch)
  parameters = size_of(params)
  variables = parameters + others
  state = variables + size_of(jax.eval_shape(method.optimizer.init, params))
  return Footprint(variables, parameters, state, activations)


@functools.lru_cache(maxsize=8)
def _traced(module, shape: tuple[int, ...], batch: int) -> tuple[Any, int, int]:
  """Return shapes of parameters, bytes of other variables, and of activations."""
  key = jax.eval_shape(jax.random.key, 0)
  x = jax.ShapeDtypeStruct((batch, *shape), jnp.float32)
  variables = dict(jax.eval_shape(module.init, key, x))
  params = variables.pop('params')

  def kept_for_the_gradient(params, rest, key, x):
    def outputs(params):
      own = {'params': params, **rest}
      return module.apply(own, x, True, mutable=['batch_stats'], rngs={'dropout': key})

    return jax.vjp(outputs, params, has_aux=True)[1]

  kept = jax.eval_shape(kept_for_the_gradient, params, variables, key, x)
  return params, size_of(variables), _without(kept, params)


def _without(kept, params) -> int:
  """Return the bytes of what is kept without parameters, which are counted separately."""
  own = collections.Counter((leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(params))
  others = collections.Counter((leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(kept)) - own
  return sum(count * size_of(jax.ShapeDtypeStruct(*form)) for form, count in others.items())


def size_of(tree: Any) -> int:
  """Return the bytes of all leaves, arrays or their shapes."""
  return sum(
    int(np.prod(leaf.shape, dtype=np.int64)) * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree)
  )


def _training(
  plan: Plan, name: str, section, method: Method, network: Footprint, count: int
) -> StageMemory:
  """Return what a training stage of `count` networks needs on one device, and on the host."""
  axes = mesh.make(count, _at_once(method, section)).shape
  here = -(-count // axes['member'])
  strategy = build.strategy(section, method)
  chunk = CHUNK if strategy == 'vmap' and jax.default_backend() == 'cpu' else here
  at_once = 1 if strategy == 'loop' else min(here, chunk)
  best = network.variables if method.select != 'last' else 0
  activations = at_once * network.activations / axes['data']
  data = plan.dataset if name == 'teacher' else plan.training
  device = {
    'networks': here * (network.state + best),
    'gradients': at_once * network.parameters,
    'activations': int(_KEPT * activations),
    'data': _data(data, section.batch_size) + _validation(plan),
  }
  return StageMemory(name, device, {'checkpoint': count * (network.state + best)})


def _data(dataset, batch: int) -> int:
  split = dataset.train
  if dataset.streams:
    rows = _STREAMED * batch
    return rows * (split.x.nbytes + split.y.nbytes) // max(len(split.x), 1)
  return split.x.nbytes + split.y.nbytes


def _validation(plan: Plan) -> int:
  x, y = plan.dataset.valid
  if not len(y):
    return 0
  rows = min(len(y), plan.config.evaluate.batch_size) if stored.in_files(x) else len(y)
  return (x.nbytes + y.nbytes) * rows // len(y)


def _evaluation(plan: Plan, teacher: Footprint, student: Footprint) -> StageMemory:
  """Return what predictions of the test set need: networks, one block, and all predictions."""
  config, dataset = plan.config, plan.dataset
  members, size = config.teacher.members, len(dataset.test.y)
  block = min(config.evaluate.batch_size, size) * int(np.prod(dataset.shape, dtype=np.int64)) * 4
  outputs = plan.teacher.family.width(dataset.targets) * 4
  device = {'members': members * teacher.variables, 'a block': block}
  students = config.seeds * student.variables
  predictions = size * outputs * (members + config.seeds * plan.student.student.size)
  host = {
    'members': members * teacher.variables,
    'students': students,
    'predictions': predictions,
  }
  return StageMemory('evaluation', device, host)


# What to lower, by the largest part.
_REMEDIES = {
  'networks': {
    'teacher': 'teacher.together to 1, or choose a smaller network',
    'student': 'seeds, student.members, or choose a smaller network',
  },
  'gradients': {
    'teacher': 'teacher.together to 1, or choose a smaller network',
    'student': 'seeds, or choose a smaller network',
  },
  'activations': {
    'teacher': "teacher.batch_size, raise teacher.microbatches or set teacher.strategy='loop'",
    'student': (
      'student.batch_size or student.members, raise student.microbatches, or, with several seeds, '
      "set student.strategy='loop'"
    ),
  },
  'data': "data.limit, or set data.stream='on'",
  'checkpoint': 'seeds, teacher.together or choose a smaller network',
  'members': 'teacher.members, or choose a smaller network',
  'students': 'seeds',
  'teacher outputs': "teacher.members, or set student.targets='online'",
  'predictions': 'teacher.members, seeds or data.limit',
  'a block': 'evaluate.batch_size',
}


def _refuse(stage: StageMemory, parts: dict[str, int], free: int | None, where: str) -> None:
  needed = sum(parts.values())
  if free is None or needed <= free:
    return
  largest = sorted(parts, key=lambda part: -parts[part])
  listed = ', '.join(f'{part} {memory.text(parts[part])}' for part in largest[:3])
  remedy = _REMEDIES[largest[0]]
  if isinstance(remedy, dict):
    remedy = remedy['teacher' if stage.name == 'teacher' else 'student']
  raise ValueError(
    f'{stage.name} needs at least {memory.text(needed)} of memory on {where} ({listed}), and '
    f'{memory.text(free)} are free: lower {remedy}'
  )
