"""The comparison at the end of a run: rows for one member, each ensemble and the student.

Every model is its predictive distributions on the same inputs: the test set, the validation set
(which its temperature is fitted on), the out-of-distribution and the shifted sets.
"""

import collections.abc
from typing import Any, NamedTuple

import jax
import numpy as np

from ensdistill import given, metrics, processes, stopping
from ensdistill.config import inputs
from ensdistill.config.build import Plan
from ensdistill.evaluation import cost, gaps, measure, networks, rows, sets, subsets
from ensdistill.evaluation.networks import Network
from ensdistill.families import FAMILIES
from ensdistill.metrics import influence


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
  networks: Any = None  # as networks.of_run returns them


def compare(plan: Plan, teacher, distilled, writer) -> Comparison:
  """Evaluate every model on the same inputs."""
  config, dataset = plan.config, plan.dataset
  section = config.evaluate
  not_run: dict[str, str] = {}
  reading = {**inputs.reading(config.data), 'seed': config.seed}
  seen = sets.inputs(dataset, section.ood, not_run, **reading)
  writer.line(f'evaluation on {", ".join(f"{name} ({len(x)})" for name, x in seen.items())}')
  batch = min(section.batch_size, max(map(len, seen.values())))
  settings = {'batch': batch, 'precision': section.precision}
  ensemble, students = networks.of_run(dataset, teacher, distilled, **settings)

  def predict(x, name, start=0):
    return _predictions(ensemble, students, x, name, start)

  models = _models(sets.predicted(predict, seen, not_run))
  whole = _whole(models)
  shifted = _shifted(plan, predict, writer, not_run, reading)
  not_run |= _unknown(plan, seen, shifted)
  if dataset.valid_is_empty and FAMILIES[dataset.family].has_classes:
    not_run['calibrated metrics'] = 'data.valid=0 leaves no examples to fit a temperature on'
  training = {}
  if section.train:
    writer.line(f'evaluation on train ({len(dataset.train.x)})')
    training = measure.training(dataset, lambda *block: _with_subsets(predict(*block)), batch)
  for name, reason in not_run.items():
    writer.line(f'not run: {name}: {reason}')
  costs = processes.by_first(lambda: _costs(dataset, ensemble, students, teacher)) or {}
  found = _rows(dataset, models, whole, shifted, training, costs)
  return Comparison(found, models, not_run, (ensemble, students))


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
    average, about = row if model.repeats else of_subsets, {'role': model.role, 'size': model.size}
    found.append(average(model.name, measured, costs.get(model.name, {}), **about))
    influences.append(influence.mean(own))
    found[-1]['test_se'] = _alone(influences[-1])
  main = [i for i, model in enumerate(models) if model.repeats]
  for i in main:
    earlier = [j for j in main if j < i]
    found[i]['paired'] = {models[j].name: _apart(influences[i], influences[j]) for j in earlier}
  if whole and whole.role == rows.ENSEMBLE:
    member = next(i for i, model in enumerate(models) if model.role == rows.MEMBER)
    _add_gaps(found, _apart(influences[member], influences[models.index(whole)], kinds=True))
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


def _unknown(plan: Plan, seen: dict, shifted: '_Shifts') -> dict[str, str]:
  """Return the sets without predictions of the ensemble, with the reason: outputs are not given."""
  if not isinstance(plan.given, given.Outputs):
    return {}
  wanted = [*seen, *(['shift'] if shifted.metrics else [])]
  if plan.config.evaluate.train:
    wanted.append('train')
  reason = f'{plan.given.where} has no outputs for it'
  return {f'member and ensemble on {name}': reason for name in plan.given.missing(wanted)}


def _predictions(
  ensemble: Network, students: list[Network], x, name: str, start: int = 0
) -> dict[tuple[str, int], list]:
  """Return {(role, size): predictive of each repeat} for these inputs, in the order of the rows.

  There are no rows of the ensemble where its outputs for the set of this name are unknown. Smaller
  ensembles have an empty list; see `_with_subsets`.
  """
  every = ensemble.predict(x, name, start)
  found: dict[tuple, list] = {}
  if every is not None:
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


class _Shifts(NamedTuple):
  """{row: {repeat: ...}} over all shifted sets: metrics, and the examples' influences on them."""

  metrics: dict
  influences: dict


def _by_repeat() -> dict:
  return collections.defaultdict(lambda: collections.defaultdict(dict))


def _shifted(plan: Plan, predict, writer, not_run, reading: dict) -> _Shifts:
  """Measure every row on every shifted set; one set is held at a time."""
  section, found, seen = plan.config.evaluate, _Shifts(_by_repeat(), _by_repeat()), set()
  family = metrics.of(plan.dataset.family)
  options = {name: reading[name] for name in ('dir', 'seed', 'unreadable')}
  options['examples'] = section.shift_examples
  for kind, severity, x, y in sets.shifted(plan.dataset, section.shift, not_run, **options):
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


def row(name: str, repeats: list[dict], costs: dict, **fields) -> dict:
  """Return a row of results.json: means over the repeats, their standard errors, and `fields`."""
  means, errors = {}, {}
  for key in repeats[0]:
    values = np.array([r[key] for r in repeats], np.float64)
    values = values[np.isfinite(values)]  # undefined without any error: rejection ratios
    means[key] = float(values.mean()) if len(values) else float('nan')
    spread = float(values.std(ddof=1) / len(values) ** 0.5) if len(values) > 1 else float('nan')
    errors[key] = spread if len(repeats) > 1 else None
  return {'name': name, **fields, 'seeds': len(repeats), 'se': errors, 'metrics': means | costs}


def of_subsets(name: str, repeats: list[dict], costs: dict, **fields) -> dict:
  """Return a row of results.json: means over subsets of members, and their standard deviations.

  Subsets share members, so their spread is no standard error. Some metrics have fewer subsets.
  """
  means, spread = {}, {}
  for key in repeats[0]:
    values = np.array([r[key] for r in repeats if key in r], np.float64)
    values = values[np.isfinite(values)]
    means[key] = float(values.mean()) if len(values) else float('nan')
    spread[key] = float(values.std(ddof=1)) if len(values) > 1 else None
  fields |= {'seeds': 1, 'se': dict.fromkeys(means), 'subsets': len(repeats), 'spread': spread}
  return {'name': name, **fields, 'metrics': means | costs}


def _add_gaps(found: list[dict], test_errors=None) -> None:
  """Add gap_closed/x = (member - student) / (member - ensemble), null where there is no gap.

  test_errors: {metric: standard error of the gap from the test examples}, where known.
  """
  (member,), ensembles = rows.of_role(found, rows.MEMBER), rows.of_role(found, rows.ENSEMBLE)
  if not ensembles:
    return
  for student in rows.of_role(found, *rows.STUDENTS):
    for key, error in member['se'].items():
      if key.startswith('train/'):  # these measure the fit, not quality
        continue
      values = [r['metrics'].get(key) for r in (member, ensembles[-1], student)]
      errors = {'member_se': error or 0.0, 'test_se': (test_errors or {}).get(key, 0.0)}
      gap = gaps.closed(*values, **errors)
      student['metrics'][f'gap_closed/{key}'] = gap
      if gap is not None and student['se'].get(key) is not None:
        error = gaps.closed_se(values[0], values[1], student['se'][key])
        student['se'][f'gap_closed/{key}'] = error


def _costs(dataset, ensemble: Network, students: list[Network], teacher) -> dict[str, dict]:
  """Return the costs of one member, the ensembles and the student (and its average), in one run.

  Members of stored outputs, and those that are functions of their own, are not timed.
  """
  timed = []
  has_variables = bool(jax.tree.leaves(teacher.variables))
  if has_variables:
    first = jax.tree.map(lambda leaf: leaf[:1], ensemble.variables)
    timed = [ensemble._replace(role=rows.MEMBER, size=1, variables=first)]
    timed += [ensemble] if ensemble.size > 1 else []
  timed += networks.of_first_seed(students)
  models = {
    network.name: (network.predictor.forward, network.variables, cost.parameters(network.variables))
    for network in timed
  }
  alike = _alike(timed)
  costs = cost.of_models(models, dataset.train.x.shape[1:], dataset.train.x.dtype, alike)
  if not has_variables:
    return costs
  member = costs[rows.name(rows.MEMBER, 1)]
  for size in range(2, ensemble.size + 1):
    # XLA counts the body of a loop over members once, so the ensemble's operations are multiplied.
    own = {'params': member['params'] * size, 'flops': member['flops'] and member['flops'] * size}
    name = rows.name(rows.ENSEMBLE, size)
    costs[name] = costs.get(name, {}) | own
  return costs


def _alike(timed: list[Network]) -> dict[str, str]:
  """Return {network: the last one of equal architecture}; those two are timed once.

  Architectures are equal where names and shapes of all variables are, of networks of one member.
  """
  last = {_architecture(network): network.name for network in timed if network.size == 1}
  return {
    network.name: last[_architecture(network)]
    for network in timed
    if network.size == 1 and last[_architecture(network)] != network.name
  }


def _architecture(network: Network) -> tuple:
  """Return names and shapes of the variables of one network; a member has a leading axis."""
  skip = 1 if network.role == rows.MEMBER else 0
  leaves = jax.tree_util.tree_leaves_with_path(network.variables)
  return tuple((jax.tree_util.keystr(path), np.shape(leaf)[skip:]) for path, leaf in leaves)
