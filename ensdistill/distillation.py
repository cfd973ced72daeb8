"""Distillation: the students (one per seed, trained together) through their phases."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ensdistill import mesh, processes
from ensdistill.config import estimate, identity
from ensdistill.config.build import Phase, Plan
from ensdistill.config.settings import KEPT
from ensdistill.given import Recorded
from ensdistill.method import Method
from ensdistill.teacher import Teacher
from ensdistill.training import stage
from ensdistill.training.stage import Frozen
from ensdistill.training.step import network_keys, start


class Distilled(NamedTuple):
  """Stacked variables of the students, one per seed, and how one of them is applied."""

  method: Method
  variables: Any  # leaves [seeds, ...]


def distil(plan: Plan, teacher: 'Teacher | Recorded', writer) -> Distilled:
  """Train the students phase by phase; each phase resumes, and a finished one is skipped."""
  config, variables = plan.config, None
  arrays, online = plan.student_arrays(), teacher
  if config.student.targets in KEPT:
    arrays['teacher_outputs'] = teacher.outputs_on(plan.training, config.evaluate, writer)
    online = None
  for number, phase in enumerate(plan.phases):
    variables = _train(plan, phase, number, variables, arrays, online, writer)
  return Distilled(plan.student, mesh.fetch(variables))


def student_keys(seed: int, phase: int, seeds: int, first: int = 0):
  """Return keys and orders of the students of a phase, numbered from `first`.

  They differ from the members' keys, which are fold_in(key(seed), m), and from other phases'.
  """
  root = jax.random.fold_in(jax.random.key(seed), 2**31 - 2 - phase)
  return network_keys(root, range(first, first + seeds))


def _frozen(plan: Plan, teacher: Teacher, loop) -> Frozen:
  """Return the teacher as a step sees it; a large one is shared by the devices of a batch."""
  devices, size = loop.mesh.shape['data'], estimate.size_of(teacher.variables)
  # Devices of several hosts need not have the same memory.
  if not processes.agreed(lambda: estimate.shares_teacher(plan, devices, size), 'sharded'):
    return teacher.frozen()
  loop.writer.line(f'teacher: its variables are shared by {devices} devices')
  return teacher.frozen(loop.mesh)


def _train(plan: Plan, phase: Phase, number: int, before, arrays, teacher, writer):
  config, method = plan.config, phase.method
  section = config.student
  loop = plan.loop(section, method, config.seeds, writer)
  writer.line(
    f'{phase.name}: {config.seeds} x {section.kind} with {method.student.size} member(s), '
    f'objective {method.objective.name}, perturbation {config.perturb.name}, {method.steps} steps; '
    f'{loop.note(section.batch_size, method.microbatches)}'
  )
  if before is not None and phase.start:
    before = jax.vmap(phase.start)(mesh.fetch(before))
  keys, orders = student_keys(config.seed, number, config.seeds, section.seed or 0)
  states = start(keys, orders, method, jnp.zeros((1, *plan.training.shape)), before)
  variables, _ = stage.train(
    name=phase.name,
    method=method,
    states=states,
    feed=plan.feed(section, arrays, states.order, method.steps),
    validation=plan.validation(),
    loop=loop,
    folder=plan.folder / 'checkpoints' / phase.name,
    teacher=_frozen(plan, teacher, loop) if teacher and method.needs_teacher else None,
    settings=identity.fingerprint(identity.decisive(config)),
  )
  return variables
