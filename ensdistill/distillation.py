"""Distillation: the students (one a seed, trained together) through their phases."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ensdistill import mesh, students
from ensdistill.config import build
from ensdistill.config.settings import KEPT
from ensdistill.evaluation import inference
from ensdistill.storage import checkpoint
from ensdistill.teacher import Teacher, parameter_overview
from ensdistill.training import loop
from ensdistill.training import step as train


class Distilled(NamedTuple):
  """Stacked variables of the students, one a seed, and how one of them is applied."""

  method: train.Method
  variables: Any  # leaves [seeds, ...]


@dataclasses.dataclass(frozen=True)
class Phase:
  """A part of a student's training: a method, and how it starts from the phase before."""

  name: str
  method: train.Method
  start: Callable | None = None  # variables of the phase before -> of this one


def phases(config, dataset) -> list[Phase]:
  """One phase, or Hydra's two: one head on the ensemble's mean, then a copy of it a member."""
  method = lambda size, objective, steps: build.student_method(
    config, dataset, size, objective, steps
  )
  size = build.student_size(config)
  total = build.steps(config.student, len(dataset.train.x))
  if config.student.phases == 1:
    return [Phase('student', method(size, config.objective.name, total))]
  first = max(1, round(total * config.student.first_phase))
  return [
    Phase('student-one-head', method(1, 'mean', first)),
    Phase(
      'student',
      method(size, config.objective.name, max(1, total - first)),
      lambda variables: students.widen(variables, size),
    ),
  ]


def distil(config, dataset, teacher: Teacher, folder, writer) -> Distilled:
  """Trains the students; each phase resumes, and one that is done is not done again."""
  arrays = build.arrays(dataset.train, dataset)
  frozen = teacher.variables
  if config.student.targets in KEPT:
    arrays['teacher_outputs'] = teacher.outputs_on(dataset, config.evaluate, writer)
    frozen = None
  variables = None
  for number, phase in enumerate(phases(config, dataset)):
    variables = _train(
      config, dataset, phase, number, variables, (arrays, frozen), teacher, folder, writer
    )
  return Distilled(phase.method, jax.device_get(variables))


def keys(seed: int, phase: int, seeds: int):
  """Keys and orders of the students of a phase.

  Away from the members' keys, which are fold_in(key(seed), m), and from other phases'.
  """
  root = jax.random.fold_in(jax.random.key(seed), 2**31 - 2 - phase)
  return train.keys(root, range(seeds))


def _train(config, dataset, phase, number, before, shared, teacher, folder, writer):
  section, method = config.student, phase.method
  running = build.loop(config, section, method, config.seeds, writer, folder)
  writer.line(
    f'{phase.name}: {config.seeds} x {section.kind} of {method.student.size} member(s), objective '
    f'{method.objective.name}, perturbation {config.perturb.name}, {method.steps} steps; '
    f'{mesh.note(running.mesh, section.batch_size)}'
  )
  if before is not None and phase.start:
    before = jax.vmap(phase.start)(before)
  states = train.start(
    *keys(config.seed, number, config.seeds), method, jnp.zeros((1, *dataset.shape)), before
  )
  writer.text('parameters of a student', parameter_overview(states.params), stage=phase.name)
  augment = build.augmentation(config)
  arrays, frozen = shared
  feed = build.feed(config, section, dataset, arrays, states, method.steps)

  def step(state, arrays, frozen):
    batch = train.draw(arrays, state.order, state.step, batch=section.batch_size, augment=augment)
    batch = mesh.split_batch(running.mesh, batch)
    return train.train_step(state, batch, teacher.freeze(frozen) if frozen else None, method)

  checkpoints = folder / 'checkpoints' / phase.name
  views = 'student-averaged' if section.view == 'averaged' else 'student'
  with checkpoint.Checkpointer(checkpoints, log=writer.line) as checkpointer:
    variables, _ = loop.fit(
      phase.name,
      step,
      states,
      (feed, frozen),
      steps=method.steps,
      batch=section.batch_size,
      loop=running,
      checkpointer=checkpointer,
      score=inference.scores(
        method, views, batch=config.evaluate.batch_size, device_mesh=running.mesh
      ),
      score_shared=build.validation(config, dataset),
      select=section.select if section.keep == 'best' else 'last',
      select_from=train.settled(method),
    )
  return variables
