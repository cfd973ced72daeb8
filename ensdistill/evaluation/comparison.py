"""Rows for every model on the same inputs: one member, each ensemble and the students.

Every model is its predictive distributions on the test set, the validation set (which its
temperature is fitted on), the out-of-distribution and the shifted sets.
"""

import collections.abc
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ensdistill import metrics, processes, stopping
from ensdistill.evaluation import cost, gaps, measure, rows, sets, subsets
from ensdistill.evaluation.networks import Network
from ensdistill.families import FAMILIES
from ensdistill.metrics import influence


class Wanted(NamedTuple):
  """What an evaluation measures, in the terms of the section `evaluate`."""

  reading: dict[str, Any]  # how foreign sets are read: arguments of data.load_inputs
  ood: str = 'default'
  shift: str = 'default'
  shift_examples: int = 500
  train: bool = False  # measure the clean training inputs, too
  batch: int = 500  # most examples of a block


class Model(NamedTuple):
  """A row: its role, and the predictive distributions of its repeats on every set.

  Repeats are members, or students of several seeds. Ensembles of some of the members have none:
  they are made of the whole ensemble's.
  """

  role: str  # see evaluation.rows
  size: int  # members of the ensemble, or of the student
  name: str  # in results.json
  repeats: list[dict[str, Any]]  # {set: predictive}


class Comparison(NamedTuple):
  """Rows in the form of results.json, and what the report draws from."""

  rows: list[dict]
  models: list[Model]
  not_run: dict[str, str]  # requested sets that could not be read: the reason
  examples: dict[str, int]  # of each set with predictions
  networks: Any = None  # those that were evaluated


def compare(dataset, networks: Callable, wanted: Wanted, writer) -> Comparison:
  """Evaluate every model on the same inputs.

  networks(batch) returns the ensemble, or None, and the students, ready for blocks of `batch`
  examples.
  """
  not_run: dict[str, str] = {}
  seen = sets.inputs(dataset, wanted.ood, not_run, **wanted.reading)
  writer.line(f'evaluation on {", ".join(f"{name} ({len(x)})" for name, x in seen.items())}')
  batch = min(wanted.batch, max(map(len, seen.values())))
  ensemble, students = networks(batch)

  def predict(x, name, start=0):
    return _predictions(ensemble, students, x, name, start)

  predictions = sets.predicted(predict, seen, not_run)
  models = _models(predictions)
  whole = _whole(models)
  shifted = _shifted(dataset, wanted, predict, writer, not_run)
  not_run |= _lacking(ensemble, seen, shifted, wanted)
  if dataset.valid_is_empty and FAMILIES[dataset.family].has_classes:
    not_run['calibrated metrics'] = 'data.valid=0 leaves no examples to fit a temperature on'
  training = {}
  if wanted.train:
    writer.line(f'evaluation on train ({len(dataset.train.x)})')
    training = measure.training(dataset, lambda *block: _with_subsets(predict(*block)), batch)
  for name, reason in not_run.items():
    writer.line(f'not run: {name}: {reason}')
  costs = processes.by_first(lambda: cost.of_networks(dataset, ensemble, students)) or {}
  found = _rows(dataset, models, whole, shifted, training, costs)
  examples = {name: len(seen[name]) for name in predictions}
  return Comparison(found, models, not_run, examples, (ensemble, students))


def _rows(
  dataset, models: list[Model], whole: Model | None, shifted, training, costs
) -> list[dict]:
  """Return the rows of all models, with their errors from the test examples and gaps closed."""
  found: list[dict] = []
  influences: list[dict[str, tuple]] = []
  for model in models:
    stopping.check_together()
    parts, (ensemble, curve) = _parts(model, whole), _against(model, whole, found)
    trained = training.get((model.role, model.size)) or {}
    measured: list[dict] = []
    own: list[dict[str, tuple]] = []
    for i, part in enumerate(parts):
      scored = measure.scored(dataset, part, ensemble)
      values = measure.with_means(shifted.metrics[model.name].get(i, {}))
      measured.append(measure.scores(dataset, scored, curve) | values | trained.get(i, {}))
      if model.repeats or i < subsets.FEW:
        values = measure.with_means(shifted.influences[model.name].get(i, {}), influence.average)
        own.append(measure.influences(dataset, scored) | values)
    average = rows.of_repeats if model.repeats else rows.of_subsets
    about = {'role': model.role, 'size': model.size}
    found.append(average(model.name, measured, costs.get(model.name, {}), **about))
    influences.append(influence.mean(own))
    found[-1]['test_se'] = _alone(influences[-1])
  main = [i for i, model in enumerate(models) if model.repeats]
  for i in main:
    earlier = [j for j in main if j < i]
    found[i]['paired'] = {models[j].name: _apart(influences[i], influences[j]) for j in earlier}
  if whole and whole.role == rows.ENSEMBLE:
    member = next(i for i, model in enumerate(models) if model.role == rows.MEMBER)
    gaps.add(found, _apart(influences[member], influences[models.index(whole)], kinds=True))
  return found


def _parts(model: Model, whole: Model | None):
  """Return the predictions of a row's repeats; those of subsets are made one at a time."""
  if model.repeats or whole is None:
    return model.repeats
  return _Subsets(whole.repeats[0], subsets.of_size(whole.size, model.size))


class _Subsets(collections.abc.Sequence):
  """Predictions {set: predictive} of subsets of an ensemble, made when they are asked for."""

  def __init__(self, predictions: dict[str, Any], indices: list[tuple[int, ...]]):
    self._predictions, self._indices = predictions, indices

  def __len__(self):
    return len(self._indices)

  def __getitem__(self, number):
    index = self._indices[number]
    return {name: subsets.part(p, index) for name, p in self._predictions.items()}


def _whole(models: list[Model]) -> Model | None:
  """Return the ensemble of all members, or the only member; None without predictions of it."""
  teachers = [model for model in models if model.role not in rows.STUDENTS]
  return max(teachers, key=lambda model: model.size, default=None)


def _predictions(
  ensemble: Network | None, students: list[Network], x, name: str, start: int = 0
) -> dict[tuple[str, int], list]:
  """Return {(role, size): predictive of each repeat} for these inputs, in the order of the rows.

  There are no rows of the ensemble where its outputs for the set of this name are unknown. Smaller
  ensembles have an empty list; see `_with_subsets`.
  """
  every = ensemble.predict(x, name, start) if ensemble else None
  found: dict[tuple, list] = {}
  if ensemble and every is not None:
    found[rows.MEMBER, 1] = [subsets.part(every, slice(m, m + 1)) for m in range(ensemble.size)]
    for size in range(2, ensemble.size):
      found[rows.ENSEMBLE, size] = []
    if ensemble.size > 1:
      found[rows.ENSEMBLE, ensemble.size] = [every]
  for student in students:
    found.setdefault((student.role, student.size), []).append(student.predict(x))
  return found


def _with_subsets(found: dict[tuple[str, int], list]) -> dict[tuple[str, int], list]:
  """Fill in a few subsets of every smaller ensemble, from the predictions of the largest."""
  whole = max((key for key in found if key[0] == rows.ENSEMBLE), default=None)
  if whole is None:
    return found
  (every,), members = found[whole], whole[1]

  def few(size):
    return [subsets.part(every, i) for i in subsets.of_size(members, size)[: subsets.FEW]]

  return {key: few(key[1]) if repeats == [] else repeats for key, repeats in found.items()}


def _models(predictions: dict[str, dict[tuple, list]]) -> list[Model]:
  """Return the models of {set: {(role, size): predictives}}."""
  models = []
  for (role, size), repeats in predictions['test'].items():
    every = {name: p[role, size] for name, p in predictions.items() if (role, size) in p}
    by_set = [{name: own[i] for name, own in every.items()} for i in range(len(repeats))]
    models.append(Model(role, size, rows.name(role, size), by_set))
  return models


def _against(model: Model, whole: Model | None, found: list[dict]) -> tuple:
  """Return what students are compared with: the ensemble, and its calibrated NLL by its size."""
  if model.role not in rows.STUDENTS or whole is None:
    return None, None
  teachers = rows.of_role(found, rows.MEMBER, rows.ENSEMBLE)
  values = [r['metrics']['cnll'] for r in teachers if 'cnll' in r['metrics']]
  curve = values if values and np.isfinite(values).all() else None
  return whole.repeats[0], curve


def _lacking(ensemble, seen: dict, shifted: '_Shifts', wanted: Wanted) -> dict[str, str]:
  """Return the sets without predictions of a known ensemble, with the reason."""
  if ensemble is None:
    return {}
  names = list(seen)
  if shifted.metrics:
    names.append('shift')
  if wanted.train:
    names.append('train')
  reasons = ensemble.missing(names)
  return {f'member and ensemble on {name}': reason for name, reason in reasons.items()}


class _Shifts(NamedTuple):
  """{row: {repeat: ...}} over all shifted sets: metrics, and the examples' influences on them."""

  metrics: dict
  influences: dict


def _by_repeat() -> dict:
  return collections.defaultdict(lambda: collections.defaultdict(dict))


def _shifted(dataset, wanted: Wanted, predict, writer, not_run: dict) -> _Shifts:
  """Measure every row on every shifted set; one set is held at a time."""
  found, seen = _Shifts(_by_repeat(), _by_repeat()), set()
  family = metrics.of(dataset.family)
  options = {name: wanted.reading[name] for name in ('dir', 'seed', 'unreadable')}
  options['examples'] = wanted.shift_examples
  for kind, severity, x, y in sets.shifted(dataset, wanted.shift, not_run, **options):
    if kind not in seen:
      writer.line(f'evaluation on shift/{kind} ({len(x)})')
      seen.add(kind)
    predictions = predict(x, f'shift/{kind}/{severity}')
    for (role, size), repeats in _with_subsets(predictions).items():
      name = rows.name(role, size)
      for i, predictive in enumerate(repeats):
        scored = family.scored(predictive, y)
        found.metrics[name][i] |= measure.shifted(kind, severity, family, scored)
        if predictions[role, size]:  # only the rows of the pictures have error bars
          own = measure.shifted_influences(kind, severity, family, scored)
          found.influences[name][i] |= own
  return found


def _alone(influences: dict[str, tuple]) -> dict[str, float]:
  """Return {metric: standard error of a row's metric, from the test examples}."""
  return {key: influence.error(own) for key, own in influences.items()}


def _apart(ours: dict[str, tuple], theirs: dict[str, tuple], kinds=False) -> dict[str, float]:
  """Return {metric: standard error of the difference of two rows, from the test examples}.

  kinds: also for each kind of shift, not only for their mean.
  """
  keys = [key for key in ours if key in theirs]
  keys = [key for key in keys if kinds or not key.startswith('shift/') or '/mean/' in key]
  return {key: influence.error(ours[key], theirs[key]) for key in keys}
