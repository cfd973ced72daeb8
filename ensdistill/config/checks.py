"""Checks of a configuration before anything compiles: one line that says what to set instead."""

from ensdistill import data, names, nets, objectives, perturb, students
from ensdistill.config import settings
from ensdistill.config.build import Parts, student_size
from ensdistill.families import FAMILIES
from ensdistill.members import STRATEGIES
from ensdistill.training import bad_steps, onednn, optim, validations


def check(config, parts: Parts) -> None:
  """Refuse everything that can be refused without data."""
  check_names(config)
  check_numbers(config)
  check_student(config)
  check_optimizers(config)
  check_objective(config, parts.objective)
  check_given(config, parts)
  check_targets(config, parts)


def check_names(config) -> None:
  """Refuse unknown names, with the nearest known one."""
  for stage in ('teacher', 'student'):
    section = config[stage]
    names.check(f'{stage}.optimizer.name', section.optimizer.name, optim.OPTIMIZERS)
    names.check(f'{stage}.optimizer.schedule', section.optimizer.schedule, optim.SCHEDULES)
    names.check(f'{stage}.optimizer.decay_on', section.optimizer.decay_on, optim.DECAY_ON)
    names.check(f'{stage}.keep', section.keep, ('best', 'last'))
    names.check(f'{stage}.strategy', section.strategy, ('auto', *STRATEGIES))
  names.check('data.stream', config.data.stream, data.loading.STREAM)
  onednn.check(config.onednn)
  names.check('network', config.network.name, nets.NETWORKS)
  names.check('network', config.student.network.name, ('', *nets.NETWORKS))
  names.check('network.dtype', config.network.dtype, nets.DTYPES)
  names.check('student', config.student.kind, students.STUDENTS)
  names.check('student.view', config.student.view, ('members', 'averaged'))
  names.check('student.targets', config.student.targets, settings.TARGETS)
  names.check('factor_decay', config.student.optimizer.factor_decay, optim.FACTOR_DECAY)
  names.check('factor_scale', config.student.optimizer.factor_scale, ('one', 'members'))
  names.check('teacher.order', config.teacher.order, ('own', 'shared', 'each'))
  names.check('objective.labels_on', config.objective.labels_on, ('clean', 'perturbed'))
  names.check('on_nan', config.on_nan or 'stop', bad_steps.ON_NAN)
  names.check('evaluate.precision', config.evaluate.precision, perturb.PRECISIONS)


def check_numbers(config) -> None:
  """Refuse numbers that contradict each other; `build.parts` checks their bounds."""
  for stage in ('teacher', 'student'):
    section = config[stage]
    if bool(section.steps) == bool(section.epochs):
      raise ValueError(
        f'{stage}.steps={section.steps} and {stage}.epochs={section.epochs}: '
        'set exactly one of them'
      )
    if (parts := section.microbatches) and section.batch_size % parts:
      raise ValueError(
        f'{stage}.microbatches={parts} must divide {stage}.batch_size={section.batch_size}: set '
        'either of them'
      )
    if config.data.valid == 0 and section.keep != 'last':
      raise ValueError(
        f'data.valid=0 leaves no examples to choose a checkpoint by: set {stage}.keep=last'
      )
  if config.validate:
    validations.parse(config.validate)


def check_student(config) -> None:
  """Refuse settings that the kind of student lacks."""
  student = config.student
  if student.phases not in (1, 2) or (student.phases == 2 and student.kind != 'multi_head'):
    raise ValueError(
      f'student.phases={student.phases} for {student.kind!r}: two phases (one head, then all) are '
      "for student.kind='multi_head'; set student.phases=1"
    )
  if student.view == 'averaged' and student.kind != 'batch_ensemble':
    raise ValueError(
      f"student.view='averaged' is for student.kind='batch_ensemble', not {student.kind!r}: set "
      "student.view='members'"
    )
  if student.kind == 'single' and student.members > 1:
    raise ValueError(
      f"student.members={student.members} has no effect: student.kind='single' is one network; set "
      'student.members=0, or another kind'
    )
  unused = {'factor_rate': 1.0, 'factor_decay': 'none', 'factor_scale': 'one'}
  for name, neutral in unused.items():
    if student.kind != 'batch_ensemble' and student.optimizer[name] != neutral:
      raise ValueError(
        f'student.optimizer.{name}={student.optimizer[name]!r} has no effect: {student.kind!r} has '
        f'no factors; set student.optimizer.{name}={neutral}'
      )


def check_optimizers(config) -> None:
  """Refuse a warm-up of a schedule that has its own."""
  for stage in ('teacher', 'student'):
    optimizer = config[stage].optimizer
    if optimizer.schedule == 'one_cycle' and optimizer.warmup:
      raise ValueError(
        f'{stage}.optimizer.warmup={optimizer.warmup} has no effect: one_cycle has a rise of its '
        f'own; set {stage}.optimizer.warmup=0'
      )


def check_objective(config, objective: objectives.Objective) -> None:
  """Refuse weights of labels, and places for them, that leave nothing to train on."""
  section, perturbed = config.objective, config.perturb.name != 'none'
  labels_only = objective.loss is None
  if not labels_only and section.label_weight == 1:
    raise ValueError(
      f'objective.label_weight=1 leaves nothing of objective.name={section.name!r}: lower it, '
      "or set objective.name='none'"
    )
  if labels_only and section.label_weight != 1:
    raise ValueError(
      f'objective.name={section.name!r} learns from labels alone: set objective.label_weight=1'
    )
  if not perturbed and section.labels_on == 'perturbed':
    raise ValueError(
      "objective.labels_on='perturbed' needs perturbed inputs: set perturb.name, or "
      "objective.labels_on='clean'"
    )
  if labels_only and perturbed and section.labels_on == 'clean':
    raise ValueError(
      f'perturb.name={config.perturb.name!r} would have no effect: objective.name={section.name!r} '
      "learns from labels alone, on clean inputs; set objective.labels_on='perturbed'"
    )


def check_given(config, parts: Parts) -> None:
  """Refuse what an ensemble that was trained elsewhere cannot serve."""
  teacher = config.teacher
  if not teacher.outputs and not teacher.source:
    if not teacher.members:
      raise ValueError(
        'teacher.members=0 is for teacher.outputs or teacher.source: set it to 1 or more'
      )
    return
  if teacher.outputs and parts.objective.loss:
    _check_outputs(config)


def _check_outputs(config) -> None:
  """Refuse what needs the teacher on other inputs than those that its outputs belong to."""
  student, file = config.student, f'teacher.outputs={config.teacher.outputs!r}'
  if student.targets == 'online':
    raise ValueError(
      f"student.targets='online' computes the teacher at every step, but {file} holds its outputs "
      "alone: set student.targets='stored'"
    )
  if config.perturb.name != 'none':
    raise ValueError(
      f'perturb.name={config.perturb.name!r} needs the teacher on the perturbed inputs, but {file} '
      "holds its outputs on the clean ones: set perturb.name='none', or give the ensemble as "
      'functions (teacher.source)'
    )
  if config.data.aux:
    raise ValueError(
      f'data.aux={config.data.aux!r} needs the teacher on other inputs than those of {file}: unset '
      'it, or give the ensemble as functions (teacher.source)'
    )
  changed = settings.augmentations(config)
  if changed and student.targets != 'clean_cache':
    off = ' '.join(f'--config.augment.{name}=0' for name in changed)
    raise ValueError(
      f'augment ({", ".join(changed)}) changes the inputs, but {file} holds the outputs on the '
      f'clean ones: set {off}, or --config.student.targets=clean_cache to pair both'
    )


def check_targets(config, parts: Parts) -> None:
  """Refuse stored targets of inputs that change."""
  targets, augment = config.student.targets, parts.augment
  augmentations = settings.augmentations(config)
  if augment.crop_area and config.data.stream == 'off':
    raise ValueError(
      f'augment.crop_area={augment.crop_area} cuts images out of their files at every step, '
      "but data.stream='off' keeps them in memory: set data.stream='auto'"
    )
  if targets not in settings.KEPT:
    return
  if config.perturb.name != 'none':
    raise ValueError(
      f'perturb.name={config.perturb.name!r} needs the teacher on the perturbed inputs, but '
      f'student.targets={targets!r} keeps its outputs on the clean ones: '
      "set student.targets='online'"
    )
  if targets == 'stored' and augmentations:
    raise ValueError(
      "student.targets='stored' is exact only for inputs that do not change, but augment is set "
      f'({", ".join(augmentations)}): '
      "set student.targets='clean_cache' or 'online'"
    )
  if targets == 'clean_cache' and augment.batch:
    raise ValueError(
      f'augment.mixup={config.augment.mixup} shows the student mixtures, but student.targets='
      "'clean_cache' keeps the teacher's outputs on single images: set student.targets='online' or "
      'augment.mixup=0'
    )
  if parts.objective.loss is None:
    raise ValueError(
      f'student.targets={targets!r}: objective.name={config.objective.name!r} has no targets; set '
      "student.targets='online'"
    )


def settle_targets(config, parts: Parts, in_files: bool) -> None:
  """Replace targets='auto': 'stored' for inputs in memory that do not change, else 'online'.

  Outputs of an ensemble that was trained elsewhere are stored already.
  """
  if config.student.targets != 'auto':
    return
  if parts.objective.loss is None:
    config.student.targets = 'online'
  elif config.teacher.outputs:
    config.student.targets = 'stored'
  else:
    changed = parts.perturbation or settings.augmentations(config)
    config.student.targets = 'online' if changed or in_files else 'stored'


def check_fits(config, parts: Parts, family_name: str) -> None:
  """Refuse parts that do not fit the data set's outputs."""
  size, teacher_size = student_size(config), config.teacher.members
  family = FAMILIES[family_name]
  for stage in ('teacher', 'student'):
    names.check(f'{stage}.select for {family.name} data', config[stage].select, family.score_names)
    if config[stage].variance not in (None, 'input') and family.has_classes:
      raise ValueError(
        f'{stage}.variance={config[stage].variance!r} is for regression, and this data set has '
        f"{family.name} outputs: set {stage}.variance='input'"
      )
  perturbation = parts.perturbation
  for reason in (
    parts.labels.fits(family.name, 'single', 1, 1),
    parts.objective.fits(family.name, config.student.kind, size, teacher_size),
    perturbation and perturbation.fits(family.name, size, teacher_size),
  ):
    if reason:
      raise ValueError(reason)
  if config.student.phases == 2 and perturbation:
    reason = perturbation.fits(family.name, 1, teacher_size)
    if reason:
      raise ValueError(f'the first phase trains one head: {reason}; or set student.phases=1')
