"""Distillation as a function: arrays and an ensemble in, a student out."""

import dataclasses
import pathlib
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ensdistill import data, distillation, export, given, names, planning, plugins, runtime
from ensdistill import teacher as teacher_stage
from ensdistill.config import recipes, settings
from ensdistill.families import FAMILIES
from ensdistill.logs import writers
from ensdistill.storage import safe
from ensdistill.student import reporting, tables
from ensdistill.student.model import Model

ARRAYS = 'the given arrays'
# Settings that an argument decides: what to use instead.
_DECIDED = {
  'data.name': 'pass x and y',
  'data.valid': 'pass valid=',
  'seed': 'pass seed=',
  'teacher.outputs': 'pass the outputs as the teacher',
  'teacher.source': 'pass the functions as the teacher',
}
# Settings of a run that a call lacks.
_RUN = (
  'workdir', 'seeds', 'sinks', 'cache', 'profile', 'imports',
  'imports_content', 'teacher.content', 'network.content', 'student.network.content',
)  # fmt: skip
_NEED_Y = 'networks that are trained first need y'
WHERE = 'teacher'


def distil(
  teacher,
  x,
  y=None,
  *,
  method: str = 'hydra',
  network: str | None = None,
  network_settings: Mapping[str, Any] | None = None,
  steps: int = 2000,
  batch_size: int = 128,
  seed: int = 0,
  valid: float = 0.1,
  changes: Mapping[str, Any] | None = None,
  columns: Sequence[str] | None = None,
  classes: Sequence[str] | None = None,
  folder: str | pathlib.Path | None = None,
  quiet: bool = False,
) -> Model:
  """Distil an ensemble into one network; return it as `ensdistill.load` does.

  student = ensdistill.distil(logits, x, y, method='hydra')
  student.predict(x_new).probs

  Args:
    teacher: outputs [N, M, O] for the N examples of x; or a function x -> [B, M, O], a list of
      functions x -> [B, O] or of NNX modules, or (apply, variables) with apply(variables, x) ->
      [B, O]. Outputs are logits; for regression means, then log-variances, in the units of y.
      Methods that perturb inputs need functions. Or a number: that many networks of the same kind
      are trained first, on x and y.
    x: images [N, H, W, C], uint8 or floats in [0, 1]; or a table [N, D], an array, a frame of
      pandas or polars or a list of dicts, whose columns keep their names.
    y: labels [N] from 0, or names of classes, whose order is sorted; or regression targets [N] or
      [N, D] as floats. Without y the student learns from the ensemble alone (classification), and
      its last checkpoint is kept.
    method: a method of the recipes, see `ensdistill list`.
    network: a backbone, see docs/networks.md, or one of your own, 'file.py:function'; None: a
      resnet for images, an mlp for tables.
    network_settings: settings of the backbone, such as {'depth': 20}.
    steps: training steps of the student, and of members that are trained first.
    batch_size: examples of a step; at most the number of training examples.
    seed: seed of everything that is drawn.
    valid: share of the examples with which the checkpoint is chosen and temperatures are fitted.
    changes: other settings by name, such as {'perturb.eta': 2.0}; `ensdistill config --all`.
    columns: names of a table's columns, where x is an array.
    classes: names of the classes, where y holds numbers.
    folder: a folder for checkpoints and logs, so that the same call continues a killed one; None:
      a temporary folder.
    quiet: print nothing.
  """
  _refuse_files(teacher)
  runtime.prepare(memory=False)  # a program of the user's keeps its allocator
  dataset = _dataset(teacher, x, y, valid, seed, columns, classes)
  config = _config(method, network, network_settings, dataset, y is not None)
  config.name, config.seed, config.student.steps = method, seed, steps
  config.data.name, config.data.content = dataset.name, dataset.fingerprint
  config.teacher.steps, config.data.valid = steps, len(dataset.valid.y)
  config.student.batch_size = config.teacher.batch_size = min(batch_size, len(dataset.train.y))
  _set_source(config, teacher, dataset)
  _check_changes(changes or {})
  settings.apply(config, dict(changes or {}))
  members = _members(teacher, dataset, config)
  parts = planning.parts(config)
  with tempfile.TemporaryDirectory() as temporary:
    place = pathlib.Path(folder or temporary)
    if not config.teacher.dir:
      config.teacher.dir = str(place / 'teachers')
    plan = planning.plan(config, parts, dataset, dataset, place, members)
    plan = dataclasses.replace(plan, keeps=folder is not None)
    with safe.alone(place, quiet), writers.Writer(place, quiet=quiet) as writer:
      obtained = teacher_stage.obtain(plan, writer)
      distilled = distillation.distil(plan, obtained, writer)
  origin = reporting.Origin(plan, obtained, distilled)
  return dataclasses.replace(export.model(plan, distilled), origin=origin)


def _refuse_files(teacher) -> None:
  """Refuse a path or an opened .npz file in place of the array that it holds."""
  if isinstance(teacher, str | pathlib.Path | Mapping):
    raise ValueError(
      f'teacher is a {type(teacher).__name__}: pass the array of outputs for the rows of x, such '
      "as numpy.load('outputs.npz')['train']"
    )


def _check_changes(changes: Mapping[str, Any]) -> None:
  """Refuse settings that have no effect here, and those that arguments of `distil` decide."""
  for path in changes:
    remedy = _DECIDED.get(path)
    if not remedy and (path.split('.')[0] in ('data', 'evaluate') or path in _RUN):
      remedy = 'it has no effect on arrays that are given: leave it out'
    if remedy:
      raise ValueError(f'changes={{{path!r}: ...}}: {remedy}')


def _dataset(teacher, x, y, valid: float, seed: int, columns, classes) -> data.Dataset:
  """Return the data set of the arrays, with a share of them for validation."""
  if not 0 <= valid < 1:
    raise ValueError(f'valid={valid} must be a share of the examples, in [0, 1)')
  x, column_names = _inputs(x, columns)
  options: dict[str, Any] = {'seed': seed, 'names': classes, 'columns': column_names}
  if y is None:
    return data.from_arrays(x, None, classes=_width(teacher, x), **options)
  y, found = _labels(y)
  if found and classes is not None and list(classes) != found:
    raise ValueError(f'classes={list(classes)}, but y holds {found}: leave classes out')
  count = min(round(valid * len(x)), len(x) - 1)
  options |= {'valid': max(count, 1) if valid else 0, 'names': classes or found}
  return data.from_arrays(x, y, **options)


def _inputs(x, columns) -> tuple[np.ndarray, list[str] | None]:
  """Return inputs as an array, and the names of a table's columns."""
  table = tables.named(x)
  if table is None:
    return np.asarray(x), list(map(str, columns)) if columns is not None else None
  order = tables.ordered(table, list(columns or table.names))
  return tables.array(table, order), [table.names[i] for i in order]


def _labels(y) -> tuple[np.ndarray, list[str] | None]:
  """Return labels as numbers, with the sorted names of classes where they are texts."""
  y = np.asarray(y)
  if y.dtype.kind == 'O' and not any(isinstance(value, str) for value in y.ravel()):
    y = np.asarray(y.tolist())  # such as integers of pandas
  if y.dtype.kind not in 'OUS':
    return y, None
  texts = [value for value in y.ravel().tolist() if isinstance(value, str)]
  if y.ndim != 1 or len(texts) < len(y):
    raise ValueError(f'y holds {y.dtype} of shape {y.shape}: give names of classes or numbers [N]')
  classes, numbers = np.unique(texts, return_inverse=True)
  return numbers, classes.tolist()


def _width(teacher, x) -> int:
  """Return the number of outputs of an ensemble, which is the number of classes."""
  if given.is_array(teacher):
    return np.shape(teacher)[-1]
  if _is_number(teacher):
    raise ValueError(f'teacher={teacher}: {_NEED_Y}')
  return given.width(teacher, data.as_input(np.asarray(x[:2])), WHERE)


def _is_number(teacher) -> bool:
  return isinstance(teacher, int | np.integer) and not isinstance(teacher, bool)


def _set_source(config, teacher, dataset) -> None:
  """Write into the configuration where the members come from, or how many are trained."""
  if _is_number(teacher):
    if teacher < 1:
      raise ValueError(f'teacher={teacher}: give at least one network, or an ensemble')
    if FAMILIES[dataset.family].has_classes and not (dataset.train.y >= 0).any():
      raise ValueError(f'teacher={teacher}: {_NEED_Y}')
    config.teacher.members = int(teacher)
    return
  config.teacher.members, config.teacher.steps = 0, 1
  if given.is_array(teacher):
    config.teacher.outputs, config.student.targets = ARRAYS, 'auto'
  else:
    config.teacher.source = ARRAYS


def _members(teacher, dataset, config) -> 'given.Outputs | given.Functions | None':
  """Return the given members; None where they are trained first."""
  if _is_number(teacher):
    return None
  if given.is_array(teacher):
    check_order = config.teacher.check_order is not False
    arrays = {'train': np.asarray(teacher)}
    return given.from_arrays(arrays, dataset, ARRAYS, check_order=check_order)
  return given.from_functions(teacher, dataset, WHERE)


def _config(method: str, network, network_settings, dataset, labelled: bool):
  """Return the configuration of a method for these data."""
  config, classes = settings.default(), FAMILIES[dataset.family].has_classes
  task = 'classification' if classes else 'regression'
  for section in (config.student, config.teacher):
    section.optimizer.update(name='adam', rate=1e-3, decay=0.0, clip=1.0)
  recipes.apply_method(config, method, task)
  if task not in recipes.METHODS[method].tasks:
    raise ValueError(f'method {method!r} is not for {task}: `ensdistill list` shows those that are')
  default = 'mlp' if len(dataset.shape) == 1 else 'resnet'
  network = plugins.network(network or default, f'network={network!r}')
  layer: dict[str, Any] = {'network.name': network}
  layer |= {f'network.{name}': value for name, value in (network_settings or {}).items()}
  known = settings.default().network.keys()
  for name in network_settings or {}:
    if name not in known:
      raise names.unknown('setting of a network', name, known)
  settings.apply(config, layer)
  if not labelled or dataset.valid_is_empty:
    config.student.keep = 'last'
    config.teacher.keep = 'last'
  if not labelled and config.objective.label_weight:
    raise ValueError(
      f'method {method!r} also learns from labels: pass y, or changes='
      "{'objective.label_weight': 0.0}"
    )
  return config
