"""From sections of the configuration to the parts that run, each built once.

`parts` builds what needs no data, `plan` the rest; nothing below reads a ConfigDict.
"""

import dataclasses
import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import numpy as np
import optax

from ensdistill import data, mesh, names, nets, objectives, perturb, students
from ensdistill.config import bounds, identity, inputs
from ensdistill.config.settings import KEPT, TEACHER_LOSSES, given
from ensdistill.evaluation import cost
from ensdistill.families import FAMILIES
from ensdistill.members import default_strategy
from ensdistill.method import Method
from ensdistill.objectives import Objective
from ensdistill.perturb import Perturbation
from ensdistill.training import onednn, optim, validations
from ensdistill.training.feed import AUGMENTED, Feed, Validation, training_feed, validation_set
from ensdistill.training.loop import LoopSettings


class Parts(NamedTuple):
  """Parts of a configuration that do not depend on the data."""

  objective: Objective
  labels: Objective  # what the teacher learns from
  perturbation: Perturbation | None
  augment: inputs.Augmentation


def parts(config) -> Parts:
  """Return the objective, the perturbation and the augmentation.

  Unknown names are refused, and so are numbers that are not finite or out of their bounds.
  """
  bounds.check(config)
  section = config.objective
  perturbed = given(config.perturb, perturb.PERTURBATIONS)
  loss = names.lookup('teacher.loss', config.teacher.loss or 'nll', TEACHER_LOSSES)
  return Parts(
    objectives.make(section.name, **given(section, objectives.OBJECTIVES)),
    objectives.make(loss),
    perturb.make(config.perturb.name, **perturbed),
    inputs.augmentation(config),
  )


@dataclasses.dataclass(frozen=True)
class Phase:
  """A part of a student's training: a method, and how it starts from the phase before."""

  name: str
  method: Method
  start: Callable | None = None  # variables of the phase before -> variables of this one


@dataclasses.dataclass(frozen=True)
class Plan:
  """A checked configuration with all of its parts, its data and its folder."""

  config: Any
  parts: Parts
  dataset: data.Dataset
  training: data.Dataset  # what the student learns from: with auxiliary inputs, if there are any
  folder: pathlib.Path
  teacher: Method  # of one member
  phases: list[Phase]  # of the student
  given: Any = None  # an ensemble that was trained elsewhere, see ensdistill.given
  keeps: bool = True  # the folder outlives the call, so that messages may name its files

  @property
  def student(self) -> Method:
    """The method of the finished student: that of its last phase."""
    return self.phases[-1].method

  @property
  def teacher_root(self) -> pathlib.Path:
    """The folder of teachers: beside the run's folder by default, and shared with other runs."""
    return pathlib.Path(self.config.teacher.dir or self.folder.parent / 'teachers')

  def feed(self, section, arrays: dict, orders, steps: int) -> Feed:
    """Return the training feed of a stage; `orders` decide each network's batches."""
    return training_feed(
      arrays,
      orders,
      streams=self.training.streams,
      steps=steps,
      batch=section.batch_size,
      augment=self.parts.augment.images,
      crop_area=self.parts.augment.crop_area,
      workers=self.config.data.workers,
    )

  def student_arrays(self) -> dict:
    """Return what the student learns from by name; auxiliary images are not augmented."""
    split, auxiliary = self.training.train, self.training.auxiliary
    found = arrays(split, self.training)
    if self.parts.augment.images and auxiliary:
      found[AUGMENTED] = np.arange(len(split.x)) < len(split.x) - auxiliary
    return found

  def validation(self) -> Validation | None:
    """Return what scores networks in training; None without validation examples."""
    if self.dataset.valid_is_empty:
      return None
    x, y = arrays(self.dataset.valid, self.dataset).values()
    return validation_set(x, y, self.config.evaluate.batch_size)

  def loop(self, section, method: Method, size: int, writer) -> LoopSettings:
    """Return how a stage of `size` networks runs on the available devices."""
    config, points = self.config, None
    if config.validate:
      points = validations.at_steps(config.validate, method.steps, method.epoch)
    return LoopSettings(
      mesh.make(size, section.batch_size // method.microbatches),
      strategy(section, method),
      writer,
      checkpoint_seconds=config.checkpoint_seconds,
      logs=config.logs,
      scores=config.scores,
      score_points=points,
      steps_per_call=config.steps_per_call,
      onednn=onednn.chosen(config.onednn, self._flops(section, method, size), method.steps),
      profile=config.profile,
      profile_folder=str(self.folder / 'profile'),
      on_nan=config.on_nan or 'stop',
      folder=str(self.folder) if self.keeps else '',
      made_by=identity.made_by(config, data=self.dataset.fingerprint),
    )

  def _flops(self, section, method: Method, size: int) -> float:
    """Return the operations of a step's convolutions, forward, with those of the teacher."""
    flops = size * cost.convolutions(method.student.module)
    online = method is not self.teacher and self.config.student.targets not in KEPT
    online = online and not self.given  # networks made elsewhere are not known
    if online and method.needs_teacher:
      flops += self.config.teacher.members * cost.convolutions(self.teacher.student.module)
    return section.batch_size * flops


def plan(config, parts: Parts, dataset, training, folder, given=None) -> Plan:
  """Return the plan of a run, with the methods of teacher and student."""
  teacher = given_method(dataset) if given else teacher_method(config, parts, dataset)
  phases = student_phases(config, parts, training)
  return Plan(config, parts, dataset, training, pathlib.Path(folder), teacher, phases, given)


def given_method(dataset) -> Method:
  """Return the method that reads the outputs of a given ensemble, which is not trained."""
  family = FAMILIES[dataset.family]
  student = students.Student('given', nn.Module(), 1)
  labels = objectives.make('none')
  return Method(student, family, labels, optax.identity(), 0, dataset.space)


def teacher_method(config, parts: Parts, dataset) -> Method:
  """Return the method that trains one member of the teacher: a single network, on labels alone."""
  family = FAMILIES[dataset.family]
  backbone = network(config.network, dataset, config.network.dtype)
  settings = given(config.teacher, {'single': students.STUDENTS['single']})
  student = students.make('single', backbone, family.width(dataset.targets), **settings)
  length = steps(config.teacher, len(dataset.train.x))
  return Method(
    student,
    family,
    parts.labels,
    optim.make(steps=length, **optimizer_settings(config.teacher, len(dataset.train.x))),
    length,
    dataset.space,
    label_weight=1.0,
    mix=parts.augment.batch,
    epoch=epoch(config.teacher, dataset),
    microbatches=config.teacher.microbatches or 1,
    select=selected_by(config.teacher),
  )


def phase_steps(section, total: int) -> list[int]:
  """Return the steps of each phase of a student that trains for `total` steps."""
  if section.phases == 1:
    return [total]
  first = max(1, round(total * section.first_phase))
  return [first, max(1, total - first)]


def student_phases(config, parts: Parts, dataset) -> list[Phase]:
  """Return one phase, or Hydra's two: one head on the ensemble's mean, then M copies of it."""
  size, objective = student_size(config), parts.objective
  total = steps(config.student, len(dataset.train.x))
  if config.student.phases == 1:
    return [Phase('student', student_method(config, parts, dataset, size, objective, total))]
  first, rest = phase_steps(config.student, total)
  temperature = config.objective.temperature
  settings = {} if temperature is None else {'temperature': temperature}
  mean = objectives.make('mean', **settings)

  def widen(variables):
    return students.widen(variables, size)

  return [
    Phase('student-one-head', student_method(config, parts, dataset, 1, mean, first)),
    Phase('student', student_method(config, parts, dataset, size, objective, rest), widen),
  ]


def student_method(
  config, parts: Parts, dataset, members: int, objective: Objective, length: int
) -> Method:
  """Return the method that trains a student of `members` members in `length` steps."""
  family, section = FAMILIES[dataset.family], config.student
  student = students.make(
    section.kind,
    network(section.network, dataset, config.network.dtype, config.network),
    objective.width(family, dataset.targets),
    members=members,
    **given(section, students.STUDENTS),
  )
  optimizer = optimizer_settings(section, len(dataset.train.x))
  scale = members if optimizer.pop('factor_scale') == 'members' else 1.0
  return Method(
    student,
    family,
    objective,
    optim.make(steps=length, group=student.group, factor_scale=scale, **optimizer),
    length,
    dataset.space,
    perturbation=parts.perturbation,
    label_weight=config.objective.label_weight,
    labels_on_clean=config.objective.labels_on == 'clean',
    mix=parts.augment.batch,
    epoch=epoch(section, dataset),
    microbatches=section.microbatches or 1,
    select=selected_by(section),
    view='student-averaged' if section.view == 'averaged' else 'student',
  )


def network(section, dataset, dtype: str, fallback=None) -> nets.Backbone:
  """Return the backbone that a section names for this data."""
  name, settings = network_settings(section, fallback)
  return nets.build(
    name, shape=dataset.shape, mean=dataset.mean, std=dataset.std, dtype=dtype, **settings
  )


def network_settings(section, fallback=None) -> tuple[str, dict]:
  """Return name and settings of a network; without a name, those of `fallback` with its changes."""
  own = given(section, nets.NETWORKS | nets.COMMON)
  if section.name or fallback is None:
    return section.name, own
  return fallback.name, network_settings(fallback)[1] | own


def student_size(config) -> int:
  """Return the number of members of the student."""
  if config.student.kind == 'single':
    return 1
  return config.student.members or config.teacher.members


def selected_by(section) -> str:
  """Return the validation score that chooses a stage's checkpoint, or 'last'."""
  return section.select if section.keep == 'best' else 'last'


def strategy(section, method: Method) -> str:
  """Return how stacked networks of a method are computed."""
  if section.strategy != 'auto':
    return section.strategy
  return default_strategy(method.student.module.backbone.convolutional)


def arrays(split, dataset) -> dict:
  """Return a split's arrays by name, with targets as training sees them."""
  units = dataset.target_mean, dataset.target_std
  return {'x': split.x, 'y': FAMILIES[dataset.family].standardise(split.y, *units)}


def steps(section, size: int) -> int:
  """Return a stage's length in steps: given, or as epochs over the training set."""
  if section.batch_size > size:
    raise ValueError(
      f'batch_size={section.batch_size} is larger than the training set ({size} examples): lower it'
    )
  length = section.steps or section.epochs * data.sampler.steps_per_epoch(size, section.batch_size)
  if length > bounds.INT32:
    raise ValueError(
      f'epochs={section.epochs} of {size} examples are {length:,} steps, more than '
      f'{bounds.INT32:,}: lower epochs'
    )
  return length


def epoch(section, dataset) -> int:
  """Return the steps in an epoch over a data set's training part."""
  return data.sampler.steps_per_epoch(len(dataset.train.x), section.batch_size)


def optimizer_settings(section, size: int) -> dict:
  """Return the optimiser's settings that are set, for a stage on `size` training examples."""
  found = {name: value for name, value in section.optimizer.items() if value is not None}
  if found.pop('per_epoch', False):
    found['epoch'] = data.sampler.steps_per_epoch(size, section.batch_size)
  return found
