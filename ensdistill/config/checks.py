"""Checks of a configuration before anything compiles."""

from ensdistill import data, names, nets, objectives, perturb, students
from ensdistill.config import settings
from ensdistill.config.identity import flatten, to_json
from ensdistill.members import STRATEGIES
from ensdistill.training import optim


def settle_targets(config, streams: bool) -> None:
  """targets='auto': kept where nothing changes the inputs of a set in memory, else online."""
  if config.student.targets == 'auto':
    changed = config.perturb.name != 'none' or any(
      settings.given(config.augment, settings.AUGMENT).values()
    )
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
  one_of('data.stream', config.data.stream, data.loading.STREAM)
  one_of('network', config.network.name, nets.NETWORKS)
  one_of('network', config.student.network.name, ('', *nets.NETWORKS))
  one_of('network.dtype', config.network.dtype, nets.DTYPES)
  one_of('student', config.student.kind, students.STUDENTS)
  one_of('student.view', config.student.view, ('members', 'averaged'))
  one_of('student.targets', config.student.targets, settings.TARGETS)
  one_of('factor_decay', config.student.optimizer.factor_decay, optim.FACTOR_DECAY)
  one_of('factor_scale', config.student.optimizer.factor_scale, ('one', 'members'))
  one_of('teacher.order', config.teacher.order, ('own', 'shared'))
  one_of('teacher.loss', config.teacher.loss or 'nll', settings.TEACHER_LOSSES)
  one_of('objective.labels_on', config.objective.labels_on, ('clean', 'perturbed'))
  one_of('evaluate.precision', config.evaluate.precision, ('default', 'high', 'highest'))
  _objective(config)
  perturb.make(config.perturb.name, **settings.given(config.perturb, perturb.PERTURBATIONS))


def _objective(config) -> objectives.Objective:
  section = config.objective
  return objectives.make(section.name, **settings.given(section, objectives.OBJECTIVES))


def _check_combination(config):
  """Points that the axes do not have, with what to set instead."""
  student, objective, moved = config.student, config.objective, config.perturb.name
  augments = settings.given(config.augment, settings.AUGMENT)
  if student.phases not in (1, 2) or (student.phases == 2 and student.kind != 'multi_head'):
    raise ValueError(
      f'student.phases={student.phases} for {student.kind!r}: two phases (one head, then all) are '
      "for student.kind='multi_head'; set student.phases=1"
    )
  if not 0 < student.first_phase < 1:
    raise ValueError(
      f'student.first_phase={student.first_phase} is a fraction of the run, in (0, 1)'
    )
  if student.targets in settings.KEPT and moved != 'none':
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
  if labels_only and student.targets in settings.KEPT:
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
  from ensdistill.config import build
  from ensdistill.evaluation import inference

  size = build.student_size(config)
  for stage in ('teacher', 'student'):
    one_of(
      f'{stage}.select for {family} data', config[stage].select, inference.SCORES[family].names
    )
    if config[stage].variance not in (None, 'input') and family != 'gaussian':
      raise ValueError(
        f'{stage}.variance={config[stage].variance!r} is for regression, and this data set has '
        f"{family} outputs: set {stage}.variance='input'"
      )
  objective = _objective(config)
  labels = objectives.make(settings.TEACHER_LOSSES[config.teacher.loss or 'nll'])
  perturbation = perturb.make(
    config.perturb.name, **settings.given(config.perturb, perturb.PERTURBATIONS)
  )
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
