"""From sections of the configuration to the parts that run: nothing below reads a ConfigDict."""

import jax
import jax.numpy as jnp
import numpy as np

from ensdistill import data, mesh, nets, objectives, perturb, students
from ensdistill.config.settings import TEACHER_LOSSES, given
from ensdistill.families import FAMILIES
from ensdistill.members import default_strategy
from ensdistill.training import optim
from ensdistill.training.loop import Loop
from ensdistill.training.step import Method


def network(section, dataset, dtype: str, fallback=None) -> nets.Backbone:
  """The backbone that a section names for this data."""
  name, settings = network_settings(section, fallback)
  return nets.build(
    name, shape=dataset.shape, mean=dataset.mean, std=dataset.std, dtype=dtype, **settings
  )


def network_settings(section, fallback=None) -> tuple[str, dict]:
  """Name and settings of a network; without a name those of the other, changed by its own."""
  own = given(section, nets.NETWORKS)
  if section.name or fallback is None:
    return section.name, own
  return fallback.name, given(fallback, nets.NETWORKS) | own


def student_size(config) -> int:
  """Members of the student: one of a single network, else as many as were asked for."""
  if config.student.kind == 'single':
    return 1
  return config.student.members or config.teacher.members


def arrays(split, dataset) -> dict:
  """A split's arrays by name; regression targets in units of their standard deviation."""
  y = split.y
  if dataset.family == 'gaussian':
    mean, std = (np.asarray(v, np.float64)[None] for v in (dataset.target_mean, dataset.target_std))
    y = ((y - mean) / std).astype(np.float32)
  return {'x': split.x, 'y': y}


def feed(config, section, dataset, arrays, states, length: int):
  """What a stage's steps draw from: the training arrays, or their stream, batch by batch."""
  if not dataset.streams:
    return arrays
  return data.Stream(
    arrays,
    states.order,
    steps=length,
    batch=section.batch_size,
    area=crop_area(config),
    workers=config.data.workers,
  )


def validation(config, dataset):
  """x and y that score a network in training; block by block where they lie in files."""
  x, y = arrays(dataset.valid, dataset).values()
  return (x, y) if isinstance(x, np.ndarray) else data.Blocks(x, y, config.evaluate.batch_size)


def data_settings(section) -> dict:
  """What decides the examples of a data set, besides its name and a seed."""
  common = {name: section[name] for name in ('valid', 'limit', 'split')}
  return common | given(section, data.CONFIGURED)


def reading(section) -> dict:
  """How any data set is read that is looked at besides."""
  return {
    'dir': section.dir or None,
    'unreadable': section.unreadable or 'stop',
    'stream': section.stream,
    'stream_bytes': section.stream_bytes,
  }


def crop_area(config) -> float:
  """The least share of an image in a file that a training example shows; 0: it is not cut."""
  return data.windows.crops(**given(config.augment, {'files': data.windows.crops}))


def augmentation(config):
  """The function that augments inputs on the device, or None."""
  return data.augment.make(**given(config.augment, {'augment': data.augment.make}))


def mixing(config):
  """The function that mixes the examples of a batch, or None."""
  return data.augment.mixing(**given(config.augment, {'batch': data.augment.mixing}))


def check_augmentation(config, dataset) -> None:
  """Refuses before training what these inputs do not allow."""
  if crop_area(config) and isinstance(dataset.train.x, np.ndarray):
    raise ValueError(
      f'augment.crop_area={config.augment.crop_area} is for images in files, and {dataset.name} is '
      'none of these: set augment.crop_area=0, or augment.crop'
    )
  augment = augmentation(config)
  if not augment and not mixing(config):
    return
  if len(dataset.shape) != 3:
    raise ValueError(
      f'augment is for images, and {dataset.name} has inputs of shape {dataset.shape}: set '
      '--config.augment.crop=0 --config.augment.flip=false and so on'
    )
  if augment:
    images = jax.ShapeDtypeStruct((2, *dataset.shape), jnp.float32)
    jax.eval_shape(lambda x: augment(jax.random.key(0), x), images)


def steps(section, size: int) -> int:
  """A stage's length in steps: given, or as epochs over the training set."""
  if section.batch_size > size:
    raise ValueError(
      f'batch_size={section.batch_size} is larger than the training set ({size} examples): lower it'
    )
  return section.steps or section.epochs * data.sampler.steps_per_epoch(size, section.batch_size)


def teacher_method(config, dataset) -> Method:
  """How one member of the teacher is trained: a single network, on labels alone."""
  family = FAMILIES[dataset.family]
  backbone = network(config.network, dataset, config.network.dtype)
  settings = given(config.teacher, {'single': students.STUDENTS['single']})
  student = students.make('single', backbone, family.width(dataset.targets), **settings)
  length = steps(config.teacher, len(dataset.train.x))
  return Method(
    student,
    family,
    objectives.make(TEACHER_LOSSES[config.teacher.loss or 'nll']),
    optim.make(steps=length, **optimizer_settings(config.teacher.optimizer)),
    length,
    dataset.space,
    label_weight=1.0,
    mix=mixing(config),
  )


def optimizer_settings(section) -> dict:
  """Those that are set; the others are left to the optimiser's defaults."""
  return {name: value for name, value in section.items() if value is not None}


def student_method(config, dataset, members: int, objective: str, length: int) -> Method:
  """How a student of so many members is trained towards an objective for so many steps."""
  family = FAMILIES[dataset.family]
  # Settings that this objective lacks belong to the other phase's.
  objective = objectives.make(objective, **objective_settings(config, objective))
  backbone = network(config.student.network, dataset, config.network.dtype, config.network)
  student = students.make(
    config.student.kind,
    backbone,
    objective.width(family, dataset.targets),
    members=members,
    **given(config.student, students.STUDENTS),
  )
  optimizer = optimizer_settings(config.student.optimizer)
  scale = members if optimizer.pop('factor_scale') == 'members' else 1.0
  return Method(
    student,
    family,
    objective,
    optim.make(steps=length, group=student.group, factor_scale=scale, **optimizer),
    length,
    dataset.space,
    perturb.make(config.perturb.name, **given(config.perturb, perturb.PERTURBATIONS)),
    config.objective.label_weight,
    config.objective.labels_on == 'clean',
    mixing(config),
  )


def objective_settings(config, name: str) -> dict:
  settings = given(config.objective, objectives.OBJECTIVES)
  if name == config.objective.name:
    return settings
  return {k: v for k, v in settings.items() if k == 'temperature'}


def loop(config, section, method: Method, size: int, writer, folder) -> Loop:
  """How a stage of `size` networks runs on the devices that are here."""
  strategy = section.strategy
  if strategy == 'auto':
    strategy = default_strategy(method.student.module.backbone.convolutional)
  return Loop(
    mesh.make(size, section.batch_size),
    strategy,
    writer,
    checkpoint_seconds=config.checkpoint_seconds,
    logs=config.logs,
    scores=config.scores,
    steps_per_call=config.steps_per_call,
    profile=config.profile,
    profile_folder=str(folder / 'profile'),
  )
