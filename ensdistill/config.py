"""The configuration: its defaults, and its checks before anything compiles.

Settings that only some parts have (a network's width, an objective's temperature) are collected
from the parts' own signatures; one that is not set is left to the part's default, and one that the
chosen part does not have is refused.
"""

import contextlib
import functools
import inspect
import types
import typing

import ml_collections
from ml_collections import config_dict

from ensdistill import data, names, nets, objectives, optim, perturb, students
from ensdistill.identity import flatten, to_json
from ensdistill.members import STRATEGIES

AUGMENT = {'images': data.augment.make, 'batch': data.augment.mixing, 'files': data.windows.crops}


def default() -> ml_collections.ConfigDict:
  """Every setting there is; the recipes in configs/common.py fill it."""
  optimizer = dict(
    name='sgd',
    rate=0.1,
    schedule='cosine',
    warmup=0.0,  # fraction of the run
    decay=5e-4,
    decay_on='all',
    clip=0.0,
  )
  training = dict(steps=0, epochs=0, batch_size=128, keep='best', select='nll', strategy='auto')
  network = dict(name='resnet', **optional(nets.NETWORKS))
  return ml_collections.ConfigDict(
    dict(
      name='',
      workdir='',
      seed=0,
      seeds=1,
      data=dict(
        name='digits',
        dir='',
        valid=config_dict.placeholder(int),
        limit=0,
        aux='',
        split=0,
        **optional(data.CONFIGURED),
        stream='auto',
        stream_bytes=data.sources.STREAM_BYTES,
        workers=config_dict.placeholder(int),
        content='',
      ),
      augment=optional(AUGMENT),
      network=dict(network, dtype='float32'),
      teacher=dict(
        training,
        dir='',
        members=4,
        order='own',
        together=0,
        loss=config_dict.placeholder(str),  # 'nll' if not set
        **optional({'single': students.STUDENTS['single']}),
        optimizer=dict(optimizer, **optional(optim.OPTIMIZERS)),
      ),
      student=dict(
        training,
        kind='single',
        members=0,  # 0: as many as the teacher's
        **optional(students.STUDENTS),
        phases=1,
        first_phase=0.5,
        targets='online',  # or once: 'clean_cache', 'stored'; 'auto' stores where that is exact
        view='members',
        network=dict(name='', **optional(nets.NETWORKS)),
        optimizer=dict(
          optimizer,
          factor_rate=1.0,
          factor_decay='none',
          factor_scale='one',
          **optional(optim.OPTIMIZERS),
        ),
      ),
      objective=dict(
        name='mean', label_weight=0.0, labels_on='clean', **optional(objectives.OBJECTIVES)
      ),
      perturb=dict(name='none', **optional(perturb.PERTURBATIONS)),
      evaluate=dict(
        batch_size=500, precision='highest', ood='default', shift='default', shift_examples=500
      ),
      checkpoint_seconds=30.0,
      steps_per_call=0,
      logs=100,
      scores=20,
      profile=0,
      cache=config_dict.placeholder(str),
    )
  )


def optional(builders) -> dict:
  """The keyword settings of all builders as typed, unset fields: {name: placeholder}."""
  fields = {}
  for builder in builders.values():
    hints = typing.get_type_hints(builder)
    for name, parameter in inspect.signature(builder).parameters.items():
      if parameter.default is not parameter.empty:
        fields[name] = config_dict.placeholder(_plain_type(hints.get(name), parameter.default))
  return fields


def _plain_type(hint, default):
  """float | None -> float, tuple[int, ...] -> tuple; without a hint the default's own type."""
  if isinstance(hint, types.UnionType):
    hint = next(part for part in typing.get_args(hint) if part is not type(None))
  return typing.get_origin(hint) or hint or type(default)


def given(section, builders) -> dict:
  """The part's own settings that are set in its section, as keyword arguments."""
  return {k: section[k] for k in optional(builders) if section[k] is not None}


def forget_replaced(config, overridden) -> None:
  """Where `overridden` names chose another part, the recipe's settings that it lacks go.

  So `--config.objective.name=proxy_dirichlet` works on top of a recipe that has a temperature;
  what the user sets stays, and is refused if the part lacks it.
  """
  for section, chooser, builders in (
    ('network', 'name', nets.NETWORKS),
    ('student.network', 'name', nets.NETWORKS),
    ('student', 'kind', students.STUDENTS),
    ('teacher.optimizer', 'name', optim.OPTIMIZERS),
    ('student.optimizer', 'name', optim.OPTIMIZERS),
    ('objective', 'name', objectives.OBJECTIVES),
    ('perturb', 'name', perturb.PERTURBATIONS),
  ):
    if f'{section}.{chooser}' not in overridden:
      continue
    fields = functools.reduce(lambda tree, name: tree[name], section.split('.'), config)
    chosen = {name: builders[name] for name in builders if name == fields[chooser]}
    _forget(fields, section, optional(builders).keys() - optional(chosen).keys(), overridden)
  if 'data.name' in overridden:
    with contextlib.suppress(ValueError):  # no data set has this name, which loading it says
      known = data.sources.settings_of(config.data.name, config.data.dir)
      _forget(config.data, 'data', optional(data.CONFIGURED).keys() - known, overridden)


def _forget(fields, section: str, lacking, overridden) -> None:
  for name in lacking:
    if f'{section}.{name}' not in overridden:
      fields[name] = None


def settle_targets(config, streams: bool) -> None:
  """targets='auto': kept where nothing changes the inputs of a set in memory, else online."""
  if config.student.targets == 'auto':
    changed = config.perturb.name != 'none' or any(given(config.augment, AUGMENT).values())
    online = changed or streams or _objective(config).loss is None
    config.student.targets = 'online' if online else 'stored'


def check(config) -> None:
  """Everything that can be refused without data: one line, with the nearest known name."""
  _check_names(config)
  for stage in ('teacher', 'student'):
    section = config[stage]
    if bool(section.steps) == bool(section.epochs):
      raise ValueError(
        f'{stage}.steps={section.steps} and {stage}.epochs={section.epochs}: '
        'set exactly one of them'
      )
    for field in ('steps', 'epochs', 'batch_size'):
      if section[field] < 0 or (field == 'batch_size' and section[field] < 1):
        raise ValueError(f'{stage}.{field}={section[field]} must be positive')
    if section.optimizer.rate <= 0:
      raise ValueError(f'{stage}.optimizer.rate={section.optimizer.rate} must be positive')
    if not 0 <= section.optimizer.warmup < 1:
      raise ValueError(
        f'{stage}.optimizer.warmup={section.optimizer.warmup} is a fraction of the run, in [0, 1)'
      )
  for field, least in (('seeds', 1), ('logs', 1), ('scores', 1), ('profile', 0)):
    if config[field] < least:
      raise ValueError(f'{field}={config[field]} must be at least {least}')
  if config.data.workers is not None and config.data.workers < 0:
    raise ValueError(
      f'data.workers={config.data.workers} must be at least 0 (which decodes in threads)'
    )
  for field in ('batch_size', 'shift_examples'):
    if config.evaluate[field] < 1:
      raise ValueError(f'evaluate.{field}={config.evaluate[field]} must be at least 1')
  if config.teacher.members < 1:
    raise ValueError(f'teacher.members={config.teacher.members} must be at least 1')
  if not 0 <= config.objective.label_weight <= 1:
    raise ValueError(f'objective.label_weight={config.objective.label_weight} must be in [0, 1]')
  for field, least in (
    ('seed', 0), ('steps_per_call', 0), ('checkpoint_seconds', 0), ('teacher.together', 0),
    ('student.members', 0), ('data.limit', 0), ('teacher.optimizer.decay', 0),
    ('student.optimizer.decay', 0), ('teacher.optimizer.clip', 0), ('student.optimizer.clip', 0),
    ('student.optimizer.factor_rate', 0),
  ):  # fmt: skip
    value = flatten(to_json(config))[field]
    if value < least:
      raise ValueError(f'{field}={value} must be at least {least}')
  _check_combination(config)


def one_of(kind: str, name: str, known) -> None:
  """Refuses a name that is not known."""
  names.lookup(kind, name, dict.fromkeys(known))


def _check_names(config):
  for stage in ('teacher', 'student'):
    section = config[stage]
    one_of(f'{stage}.optimizer.name', section.optimizer.name, optim.OPTIMIZERS)
    one_of(f'{stage}.optimizer.schedule', section.optimizer.schedule, optim.SCHEDULES)
    one_of(f'{stage}.optimizer.decay_on', section.optimizer.decay_on, optim.DECAY_ON)
    one_of(f'{stage}.keep', section.keep, ('best', 'last'))
    one_of(f'{stage}.strategy', section.strategy, ('auto', *STRATEGIES))
  one_of('data.stream', config.data.stream, data.sources.STREAM)
  one_of('network', config.network.name, nets.NETWORKS)
  one_of('network', config.student.network.name, ('', *nets.NETWORKS))
  one_of('network.dtype', config.network.dtype, nets.DTYPES)
  one_of('student', config.student.kind, students.STUDENTS)
  one_of('student.view', config.student.view, ('members', 'averaged'))
  one_of('student.targets', config.student.targets, TARGETS)
  one_of('factor_decay', config.student.optimizer.factor_decay, optim.FACTOR_DECAY)
  one_of('factor_scale', config.student.optimizer.factor_scale, ('one', 'members'))
  one_of('teacher.order', config.teacher.order, ('own', 'shared'))
  one_of('teacher.loss', config.teacher.loss or 'nll', TEACHER_LOSSES)
  one_of('objective.labels_on', config.objective.labels_on, ('clean', 'perturbed'))
  one_of('evaluate.precision', config.evaluate.precision, ('default', 'high', 'highest'))
  _objective(config)
  perturb.make(config.perturb.name, **given(config.perturb, perturb.PERTURBATIONS))


TARGETS = ('online', 'auto', 'clean_cache', 'stored')
KEPT = ('clean_cache', 'stored')  # the targets that are computed once
TEACHER_LOSSES = {'nll': 'none', 'least_squares': 'least_squares'}  # the objective of each


def _objective(config) -> objectives.Objective:
  section = config.objective
  return objectives.make(section.name, **given(section, objectives.OBJECTIVES))


def _check_combination(config):
  """Points that the axes do not have, with what to set instead."""
  student, objective, moved = config.student, config.objective, config.perturb.name
  augments = given(config.augment, AUGMENT)
  if student.phases not in (1, 2) or (student.phases == 2 and student.kind != 'multi_head'):
    raise ValueError(
      f'student.phases={student.phases} for {student.kind!r}: two phases (one head, then all) are '
      "for student.kind='multi_head'; set student.phases=1"
    )
  if not 0 < student.first_phase < 1:
    raise ValueError(
      f'student.first_phase={student.first_phase} is a fraction of the run, in (0, 1)'
    )
  if student.targets in KEPT and moved != 'none':
    raise ValueError(
      f'perturb.name={moved!r} needs the teacher on the perturbed inputs, but '
      f'student.targets={student.targets!r} keeps its outputs on the clean ones: '
      "set student.targets='online'"
    )
  if augments.get('crop_area') and config.data.stream == 'off':
    raise ValueError(
      f'augment.crop_area={config.augment.crop_area} cuts images out of their files at every step, '
      "but data.stream='off' keeps them in memory: set data.stream='auto'"
    )
  if student.targets == 'stored' and any(augments.values()):
    raise ValueError(
      "student.targets='stored' is exact only where nothing changes the inputs, but augment is set "
      f'({", ".join(k for k, v in augments.items() if v)}): '
      "set student.targets='clean_cache' or 'online'"
    )
  if student.targets == 'clean_cache' and augments.get('mixup'):
    raise ValueError(
      f'augment.mixup={augments["mixup"]} shows the student mixtures, but student.targets='
      "'clean_cache' keeps the teacher's outputs on single images: set student.targets='online' or "
      'augment.mixup=0'
    )
  if student.view == 'averaged' and student.kind != 'batch_ensemble':
    raise ValueError(
      f"student.view='averaged' is for student.kind='batch_ensemble', not {student.kind!r}: set "
      "student.view='members'"
    )
  for stage in ('teacher', 'student'):
    optimizer = config[stage].optimizer
    if optimizer.schedule == 'one_cycle' and optimizer.warmup:
      raise ValueError(
        f'{stage}.optimizer.warmup={optimizer.warmup} has no effect: one_cycle rises by itself: '
        f'set {stage}.optimizer.warmup=0'
      )
  optimizer = student.optimizer
  unused = {'factor_rate': 1.0, 'factor_decay': 'none', 'factor_scale': 'one'}
  for name, neutral in unused.items():
    if student.kind != 'batch_ensemble' and optimizer[name] != neutral:
      raise ValueError(
        f'student.optimizer.{name}={optimizer[name]!r} has no effect: {student.kind!r} has no '
        f'factors; set student.optimizer.{name}={neutral}'
      )
  labels_only = _objective(config).loss is None
  if not labels_only and objective.label_weight == 1:
    raise ValueError(
      f'objective.label_weight=1 leaves nothing of objective.name={objective.name!r}: lower it, '
      "or set objective.name='none'"
    )
  if moved == 'none' and objective.labels_on == 'perturbed':
    raise ValueError(
      "objective.labels_on='perturbed' needs perturbed inputs: set perturb.name, or "
      "objective.labels_on='clean'"
    )
  if labels_only and moved != 'none' and objective.labels_on == 'clean':
    raise ValueError(
      f'perturb.name={moved!r} would have no effect: objective.name={objective.name!r} learns from '
      "labels alone, on clean inputs; set objective.labels_on='perturbed'"
    )
  if labels_only and student.targets in KEPT:
    raise ValueError(
      f'student.targets={student.targets!r}: objective.name={objective.name!r} has no targets; set '
      "student.targets='online'"
    )
  if labels_only and objective.label_weight != 1:
    raise ValueError(
      f'objective.name={objective.name!r} learns from labels alone: set objective.label_weight=1'
    )


def check_fits(config, family: str) -> None:
  """The axes' own reasons, which need to know what the data set's outputs mean."""
  from ensdistill import build, evaluate

  size = build.student_size(config)
  for stage in ('teacher', 'student'):
    one_of(f'{stage}.select for {family} data', config[stage].select, evaluate.SCORES[family].names)
    if config[stage].variance not in (None, 'input') and family != 'gaussian':
      raise ValueError(
        f'{stage}.variance={config[stage].variance!r} is for regression, and this data set has '
        f"{family} outputs: set {stage}.variance='input'"
      )
  objective = _objective(config)
  labels = objectives.make(TEACHER_LOSSES[config.teacher.loss or 'nll'])
  perturbation = perturb.make(config.perturb.name, **given(config.perturb, perturb.PERTURBATIONS))
  for reason in (
    labels.fits(family, 'single', 1, 1),
    objective.fits(family, config.student.kind, size, config.teacher.members),
    perturbation and perturbation.fits(family, size, config.teacher.members),
  ):
    if reason:
      raise ValueError(reason)
  if config.student.phases == 2 and perturbation:
    reason = perturbation.fits(family, 1, config.teacher.members)
    if reason:
      raise ValueError(f'the first phase trains one head: {reason}; or set student.phases=1')
