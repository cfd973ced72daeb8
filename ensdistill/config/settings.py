"""The settings of a configuration: their defaults, and layers of them; help.py describes them.

Settings that only some parts have (a network's width, an objective's temperature) are collected
from the parts' own signatures. An unset one is left to the part's default, and one that the chosen
part does not have is refused.
"""

import contextlib
import inspect
import types
import typing
from collections.abc import Callable, Collection, Mapping
from typing import Any

import ml_collections
from ml_collections import config_dict

from ensdistill import data, names, nets, objectives, perturb, students
from ensdistill.training import optim

TARGETS = ('online', 'auto', 'clean_cache', 'stored')
KEPT = ('clean_cache', 'stored')  # the targets that are computed once
TEACHER_LOSSES = {'nll': 'none', 'least_squares': 'least_squares'}  # the objective of each
LISTING = '`ensdistill config --all` lists all of them.'
# The parts of the section `augment`: what changes images, batches, and images in files.
AUGMENT = {'images': data.augment.make, 'batch': data.augment.mixing, 'files': data.windows.crops}


def default() -> ml_collections.ConfigDict:
  """Return every setting with its default value, locked; a recipe changes some."""
  config = dict(
    name='',
    workdir='',
    seed=0,
    seeds=1,
    data=_data(),
    augment=_with({}, 'augment'),
    network=_network('network', name='resnet', dtype='float32'),
    teacher=_teacher(),
    student=_student(),
    objective=_with(dict(name='mean', label_weight=0.0, labels_on='clean'), 'objective'),
    perturb=_with(dict(name='none'), 'perturb'),
    evaluate=_evaluate(),
    checkpoint_seconds=30.0,
    watchdog_minutes=config_dict.placeholder(float),
    steps_per_call=0,
    onednn=config_dict.placeholder(str),
    logs=100,
    scores=20,
    validate=config_dict.placeholder(str),
    on_nan=config_dict.placeholder(str),
    profile=0,
    cache=config_dict.placeholder(str),
    imports=config_dict.placeholder(str),
    imports_content=config_dict.placeholder(str),
    sinks=config_dict.placeholder(str),
  )
  return ml_collections.ConfigDict(config).lock()


def parts(section: str) -> dict[str, Any]:
  """Return the parts that have settings in a section, {name: builder}, also imported ones."""
  networks = nets.NETWORKS | nets.COMMON
  by_section: dict[str, dict[str, Any]] = {
    'augment': AUGMENT,
    'data': data.CONFIGURED,
    'network': networks,
    'objective': objectives.OBJECTIVES,
    'perturb': perturb.PERTURBATIONS,
    'student': students.STUDENTS,
    'student.network': networks,
    'student.optimizer': optim.OPTIMIZERS,
    'teacher': {'single': students.STUDENTS['single']},
    'teacher.optimizer': optim.OPTIMIZERS,
  }
  return by_section.get(section, {})


def part_defaults(name: str) -> dict[str, Any]:
  """Return the default of a setting in each part that has it: {part: value}."""
  section, _, own = name.rpartition('.')
  return {
    part: inspect.signature(builder).parameters[own].default
    for part, builder in parts(section).items()
    if own in settings_of(builder)
  }


def _data() -> dict:
  fixed = dict(
    name='digits',
    dir='',
    valid=config_dict.placeholder(int),
    limit=0,
    aux='',
    split=0,
    stream='auto',
    stream_bytes=data.loading.STREAM_BYTES,
    workers=config_dict.placeholder(int),
    content='',
  )
  return _with(fixed, 'data')


def _teacher() -> dict:
  fixed = dict(
    _training(),
    dir='',
    outputs=config_dict.placeholder(str),
    source=config_dict.placeholder(str),
    content=config_dict.placeholder(str),
    check_order=config_dict.placeholder(bool),
    members=4,
    order='own',
    together=0,
    sharded=config_dict.placeholder(bool),
    loss=config_dict.placeholder(str),
    optimizer=_optimizer('teacher.optimizer'),
  )
  return _with(fixed, 'teacher')


def _student() -> dict:
  fixed = dict(
    _training(),
    kind='single',
    members=0,
    phases=1,
    first_phase=0.5,
    targets='online',
    view='members',
    seed=config_dict.placeholder(int),
    network=_network('student.network', name=''),
    optimizer=_optimizer(
      'student.optimizer', factor_rate=1.0, factor_decay='none', factor_scale='one'
    ),
  )
  return _with(fixed, 'student')


def _network(section: str, **fixed) -> dict:
  return _with(fixed | dict(content=config_dict.placeholder(str)), section)


def _with(fixed: dict, section: str) -> dict:
  """Return a section: its fixed fields, and the settings of parts."""
  builders = parts(section)
  own = optional(builders)
  for name in own.keys() & fixed.keys():
    part = next(part for part, builder in builders.items() if name in settings_of(builder))
    raise ValueError(f'setting {name!r} of {part!r} is a name of the section {section}: rename it')
  return fixed | own


def _training() -> dict:
  return dict(
    steps=0,
    epochs=0,
    batch_size=128,
    microbatches=config_dict.placeholder(int),
    keep='best',
    select='nll',
    strategy='auto',
  )


def _optimizer(section: str, **settings) -> dict:
  fixed = dict(
    name='sgd',
    rate=0.1,
    schedule='cosine',
    warmup=0.0,
    decay=5e-4,
    decay_on='all',
    clip=0.0,
    per_epoch=config_dict.placeholder(bool),
    **settings,
  )
  return _with(fixed, section)


def _evaluate() -> dict:
  return dict(
    batch_size=500,
    precision='highest',
    ood='default',
    shift='default',
    shift_examples=500,
    train=config_dict.placeholder(bool),
  )


# Names of other programs for the last word of a setting.
SYNONYMS = {
  'arch': 'network.name',
  'backbone': 'network.name',
  'batch': 'batch_size',
  'bs': 'batch_size',
  'data_dir': 'data.dir',
  'dataset': 'data.name',
  'ensemble_size': 'teacher.members',
  'learning_rate': 'rate',
  'lr': 'rate',
  'model': 'network.name',
  'n_members': 'members',
  'num_epochs': 'epochs',
  'num_members': 'members',
  'num_steps': 'steps',
  'output_dir': 'workdir',
  'tau': 'temperature',
  'weight_decay': 'decay',
  'wd': 'decay',
}


def nearest(name: str, known: Collection[str]) -> list[str]:
  """Return at most two settings that are similar to an unknown name."""
  words = name.split('.')
  words[-1] = SYNONYMS.get(words[-1], words[-1])
  name = '.'.join(words)
  if name in known:
    return [name]
  ending = [other for other in known if other == name or other.endswith(f'.{name}')]
  if ending and len(ending) <= 2:
    return ending
  inside = [other for other in known if other.startswith(f'{words[0]}.')]
  inside = [other for other in inside if other.endswith(f'.{words[-1]}')]
  if len(words) > 1 and len(inside) == 1:
    return inside
  near = names.nearest(name, known)
  return [near] if near else []


def meant(name: str, known: Collection[str], shown: Callable[[str], str] = repr) -> str:
  """Return ': did you mean ...?' with similar settings as `shown` writes them, or '.'."""
  near = ' or '.join(map(shown, nearest(name, known)))
  return f': did you mean {near}?' if near else '.'


def unknown(
  name: str, known: Collection[str], where: str = '', shown: Callable[[str], str] = repr
) -> ValueError:
  """Return the one-line error for an unknown setting; `where` stands before it."""
  hint = meant(name, known, shown)
  return ValueError(f'{where}unknown setting {name!r}{hint} {LISTING}')


def check_fields(config) -> None:
  """Raise ValueError unless a configuration has all settings, and no other ones."""
  known, found = (names.flatten(c.to_dict()) for c in (default(), config))
  for name in found:
    if name not in known:
      raise unknown(name, known)
  for name in known:
    if name not in found:
      raise ValueError(
        f'the setting {name!r} is missing: start from a recipe, such as '
        "recipes.make('kd', 'digits'), and change its settings"
      )


def check_names(what: str, layer: Mapping[str, Any], config) -> None:
  """Raise ValueError if a layer holds a setting that a configuration lacks."""
  known = names.flatten(config.to_dict())
  for name in names.flatten(dict(layer)):
    if name not in known:
      raise unknown(name, known, f'{what}: ')


def apply(config, layer: Mapping[str, Any]) -> None:
  """Set the settings of a layer, {name: value}, where a dict as a value sets a section.

  Where the layer names another part, the settings that this part lacks are unset.
  """
  values = names.flatten(dict(layer))
  for name, value in values.items():
    section, _, field = name.rpartition('.')
    fields = _section(config, section)
    if field not in fields:
      raise KeyError(f'unknown setting {name!r}')
    fields[field] = value
  forget_replaced(config, values)


def _section(config, name: str):
  for word in filter(None, name.split('.')):
    config = config[word]
  return config


def optional(builders) -> dict:
  """Return the keyword settings of all builders as typed, unset fields: {name: placeholder}."""
  fields: dict[str, Any] = {}
  owners: dict[str, tuple[str, type]] = {}
  for part, builder in builders.items():
    for name, kind in settings_of(builder).items():
      owner, known = owners.setdefault(name, (part, kind))
      if kind is type(None):
        raise ValueError(f'setting {name!r} of {part!r} is None: annotate it, {name}: int | None')
      if kind is not known:
        raise ValueError(
          f'setting {name!r} is {kind.__name__} in {part!r} and {known.__name__} in {owner!r}: '
          'give both one type, or rename one'
        )
      fields.setdefault(name, config_dict.placeholder(known))
  return fields


def settings_of(builder) -> dict[str, type]:
  """Return the settings of a part, its arguments with a default, and their types."""
  hints = typing.get_type_hints(builder)
  return {
    name: _plain_type(hints.get(name), parameter.default)
    for name, parameter in inspect.signature(builder).parameters.items()
    if parameter.default is not parameter.empty
  }


def _plain_type(hint, default) -> type:
  """float | None -> float, tuple[int, ...] -> tuple; without a hint the default's own type."""
  if isinstance(hint, types.UnionType):
    hint = next(part for part in typing.get_args(hint) if part is not type(None))
  return typing.get_origin(hint) or hint or type(default)


def given(section, builders) -> dict:
  """Return a part's own settings that are set in its section, as keyword arguments."""
  return {k: section[k] for k in optional(builders) if section[k] is not None}


def build_each(section, builders: Mapping[str, Any]) -> dict[str, Any]:
  """Return what each builder returns for its own settings of a section."""
  return {name: build(**given(section, {name: build})) for name, build in builders.items()}


def augmentations(config) -> list[str]:
  """Return the names of the settings of the section `augment` that are switched on.

  `pad` is none of them: it only says what a crop pads with.
  """
  on = [name for name, value in given(config.augment, AUGMENT).items() if value]
  return [name for name in on if name != 'pad']


def forget_replaced(config, overridden: Collection[str]) -> None:
  """Unset a recipe's settings that a newly chosen part lacks.

  `overridden` are the names that were set after the recipe. So
  `--config.objective.name=proxy_dirichlet` works on a recipe that has a temperature. A setting in
  `overridden` stays, and is refused if the part lacks it.
  """
  _adopt_given(config, overridden)
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
    fields = _section(config, section)
    chosen = {name: builders[name] for name in builders if name == fields[chooser]}
    _forget(fields, section, optional(builders).keys() - optional(chosen).keys(), overridden)
  if 'data.name' in overridden:
    with contextlib.suppress(ValueError):  # an unknown data set: loading raises the error
      known = data.sources.settings_of(config.data.name, config.data.dir)
      _forget(config.data, 'data', optional(data.CONFIGURED).keys() - known, overridden)


def _adopt_given(config, overridden: Collection[str]) -> None:
  """Take the number of members and the targets from a given ensemble, instead of the recipe."""
  if not {'teacher.outputs', 'teacher.source'} & set(overridden):
    return
  if 'teacher.members' not in overridden:
    config.teacher.members = 0  # the number of given members
  if config.teacher.outputs and 'student.targets' not in overridden:
    if config.student.targets not in KEPT:  # outputs of clean inputs, as the recipe wants them
      config.student.targets = 'auto'


def _forget(fields, section: str, lacking, overridden: Collection[str]) -> None:
  for name in lacking:
    if f'{section}.{name}' not in overridden:
      fields[name] = None
