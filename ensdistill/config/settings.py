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

from ensdistill import data, nets, objectives, perturb, students
from ensdistill.training import optim

TARGETS = ('online', 'auto', 'clean_cache', 'stored')
KEPT = ('clean_cache', 'stored')  # the targets that are computed once
TEACHER_LOSSES = {'nll': 'none', 'least_squares': 'least_squares'}  # the objective of each
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
        stream_bytes=data.loading.STREAM_BYTES,
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
