"""The report of a student on test data: the comparison and the page of a run, for arrays."""

import dataclasses
import hashlib
import json
import pathlib
import time
from typing import Any, NamedTuple

import jax
import numpy as np
import optax

from ensdistill import compare, data, given, names, teacher
from ensdistill import report as reports
from ensdistill.config import build, identity, settings
from ensdistill.distillation import Distilled
from ensdistill.logs import writers
from ensdistill.method import Method
from ensdistill.perturb import Space
from ensdistill.storage import safe, seals
from ensdistill.student import inputs

GIVEN = 'teacher='


class Origin(NamedTuple):
  """The call of `distil` that made a student."""

  plan: build.Plan
  teacher: Any  # as teacher.obtain returns it
  distilled: Distilled


def report(model, x, y, folder, ensemble=None, check_order: bool = True) -> dict:
  """Write the report of a student; for the arguments see `Model.report`."""
  began = time.monotonic()
  folder = safe.make_folder(folder)
  _check_free(folder)
  accepted = inputs.accept(x, model.spec)
  split = data.Split(accepted.x, targets(model, y, len(accepted.x)))
  plan, teaching, distilled = _parts(model, split, folder, ensemble, check_order)
  compared = compare.compare(plan, teaching, distilled, writers.Silent())
  if 'calibrated metrics' in compared.not_run:
    reason = 'the student has no validation examples here, to fit a temperature on'
    compared.not_run['calibrated metrics'] = reason
  probes = reports.collect(plan, teaching, distilled, compared.networks)
  model.save(folder / 'student')
  seals.write_json(folder / 'config.json', identity.to_json(plan.config))
  timings = {'evaluation': time.monotonic() - began}
  return reports.write(plan, compared, probes, timings=timings, writer=writers.Silent())


def _check_free(folder: pathlib.Path) -> None:
  """Refuse the folder of a run of `ensdistill train`, whose results would be replaced."""
  try:
    name = json.loads((folder / 'config.json').read_text())['data']['name'].partition(':')[0]
  except FileNotFoundError:
    return
  except (ValueError, TypeError, LookupError, AttributeError):  # something else
    raise ValueError(
      f'{folder} holds a config.json that is not of a report: choose another folder'
    ) from None
  if name != data.ARRAYS:
    raise ValueError(f'{folder} holds a run on {name}: choose another folder for the report')


def targets(model, y, size: int) -> np.ndarray:
  """Return labels as numbers, or regression targets [N, D], checked against the student."""
  count, classes = model.spec['targets'], model.spec['classes']
  y = np.asarray(y)
  if len(y.shape) == 0 or len(y) != size or not size:
    raise ValueError(f'y has shape {list(y.shape)} for {size} examples: give one for each, [N]')
  if not model.family.has_classes:
    y = y[:, None] if y.ndim == 1 else y
    if y.dtype.kind not in 'uif' or y.shape[1:] != (count,) or not np.isfinite(y).all():
      raise ValueError(f'y must hold finite numbers [N, {count}], not {y.dtype} {list(y.shape)}')
    return y.astype(np.float32)
  if y.dtype.kind in 'OUS':
    known = {name: number for number, name in enumerate(classes or ())}
    unknown = [value for value in y.ravel().tolist() if value not in known]
    if y.ndim != 1 or unknown:
      raise ValueError(f'y has {unknown[:1] or list(y.shape)}: give names of {classes}, or numbers')
    return np.array([known[value] for value in y.tolist()], np.int32)
  if y.dtype.kind not in 'uib' or y.ndim != 1 or y.min() < 0 or y.max() >= count:
    raise ValueError(f'y must hold labels from 0 to {count - 1} as integers [N]')
  return y.astype(np.int32)


def _parts(model, test: data.Split, folder: pathlib.Path, ensemble, check_order: bool):
  """Return the plan, the ensemble and the students of a report."""
  origin = model.origin or _rebuilt(model, test)
  dataset = dataclasses.replace(origin.plan.dataset, test=test)
  config = origin.plan.config.copy_and_resolve_references()
  with config.unlocked():
    config.evaluate.update(settings.default().evaluate)
    config.teacher.dir = ''  # a temporary folder of `distil`
    config.data.name = f'{data.ARRAYS}:{_digest(test)}'  # tables compare reports of one set
  changed: dict[str, Any] = {'config': config, 'dataset': dataset, 'training': dataset}
  plan = dataclasses.replace(origin.plan, folder=folder, **changed)
  found = origin.teacher if ensemble is None else _teacher(ensemble, dataset, check_order)
  distilled = origin.distilled
  if isinstance(found, given.Recorded):
    tables = _tables(origin.teacher, found.size)
    if ensemble is not None:
      tables['test'] = found.outputs.tables['test']
    found = dataclasses.replace(found, outputs=dataclasses.replace(found.outputs, tables=tables))
    # A perturbation needs the ensemble at inputs of its own.
    method = dataclasses.replace(distilled.method, perturbation=None)
    distilled = distilled._replace(method=method)
  return plan, found, distilled


def _digest(split: data.Split) -> str:
  digest = hashlib.sha256()
  for array in split:
    digest.update(f'{array.dtype}{array.shape}'.encode())
    digest.update(np.ascontiguousarray(array).data)
  return digest.hexdigest()[:8]


def _tables(ensemble, size: int) -> dict[str, np.ndarray]:
  """Return the outputs of `distil`'s own `size` members, where it was given outputs."""
  if not isinstance(ensemble, given.Recorded) or ensemble.size != size:
    return {}
  return {name: table for name, table in ensemble.outputs.tables.items() if name != 'test'}


def _teacher(ensemble, dataset, check_order: bool):
  """Return the ensemble of outputs [N, M, O] on the test part, or of functions."""
  method = build.given_method(dataset)
  if given.is_array(ensemble):
    return given.Recorded(method, given.of_test(np.asarray(ensemble), dataset, GIVEN, check_order))
  found = given.from_functions(ensemble, dataset, GIVEN)
  nowhere = pathlib.Path()
  return teacher.Teacher(
    method, found.variables, found.content[:16], nowhere, 'auto', given=found.freeze
  )


def _rebuilt(model, test: data.Split) -> Origin:
  """Rebuild the origin of a student from its folder; the ensemble is unknown."""
  spec = model.spec
  few = data.Split(test.x[:0], test.y[:0])
  space = Space(0.0, 1.0, 1 / 255)
  if len(spec['shape']) == 1:
    space = Space(-np.inf, np.inf, np.asarray(spec['std'], np.float32))
  dataset = data.Dataset(
    name=data.ARRAYS,
    train=test,
    valid=few,
    test=test,
    space=space,
    classes=tuple(spec['classes']) if spec['classes'] else None,
    columns=tuple(model.columns) if model.columns else None,
    fingerprint='',
    targets=spec['targets'],
    family=spec['family'],
    mean=tuple(spec['mean']),
    std=tuple(spec['std']),
    target_mean=tuple(spec['target_mean']),
    target_std=tuple(spec['target_std']),
  )
  dataset = dataclasses.replace(dataset, fingerprint=data.fingerprint(dataset))
  method = Method(model.student, model.family, model.objective, optax.identity(), 0, space)
  stacked = jax.tree.map(lambda leaf: np.asarray(leaf)[None], model.variables)
  reader, parts = build.given_method(dataset), build.parts(settings.default())
  phases = [build.Phase('student', method)]
  config = _config(spec)
  plan = build.Plan(config, parts, dataset, dataset, pathlib.Path(), reader, phases)
  nothing = given.Outputs({}, GIVEN, '', {})
  return Origin(plan, given.Recorded(reader, nothing), Distilled(method, stacked))


def _config(spec):
  """Return the settings of a student's training that its description holds."""
  made_by = spec.get(seals.MADE_BY, {}).get('config', {})
  config, known = settings.default(), names.flatten(identity.to_json(settings.default()))
  layer = {
    name: tuple(value) if isinstance(value, list) else value
    for name, value in made_by.items()
    if name in known and not name.startswith(('data.', 'evaluate.'))
  }
  try:
    settings.apply(config, layer)
  except (ValueError, TypeError):  # of another version
    config = settings.default()
  with config.unlocked():
    config.name = spec['name']
    config.student.kind, config.objective.name = spec['student']['kind'], spec['objective']
  return config
