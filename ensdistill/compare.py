"""The comparison at the end of a run: a row for the member, each ensemble and the student.

Every model is its predictive distributions over the same inputs: the test set, the validation set
(which its temperature is fitted on) and the out-of-distribution sets.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ensdistill import cost, data, evaluate, mesh, metrics


class Model(NamedTuple):
  """A row: its repeats (members, or students of several seeds), each {set: predictive}."""

  name: str
  repeats: list[dict[str, Any]]


class Comparison(NamedTuple):
  """Rows in the form of results.json, and what the report draws from."""

  rows: list[dict]
  models: list[Model]
  not_run: dict[str, str]  # sets that were asked for and are not at hand: why


def compare(config, dataset, teacher, distilled, writer) -> Comparison:
  """Evaluates every model on the same inputs."""
  inputs, not_run = _inputs(config, dataset)
  for name, reason in not_run.items():
    writer.line(f'not run: {name}: {reason}')
  writer.line(f'evaluation on {", ".join(f"{k} ({len(x)})" for k, x in inputs.items())}')
  models = _models(config, teacher, distilled, inputs)
  costs = _costs(config, dataset, teacher, distilled)
  everyone = models[teacher.size - 1].repeats[0]  # the ensemble of all members
  rows = []
  for model in models:
    is_student = model.name.startswith('student')
    curve = [row['metrics']['cnll'] for row in rows if not row['name'].startswith('student')] or None
    measure = functools.partial(
      _metrics, dataset, ensemble=everyone if is_student else None, curve=curve if is_student else None
    )
    rows.append(_row(model.name, [measure(r) for r in model.repeats], costs.get(model.name, {})))
  _add_gaps(rows)
  return Comparison(rows, models, not_run)


def _inputs(config, dataset) -> tuple[dict[str, np.ndarray], dict[str, str]]:
  """{set: inputs}; an out-of-distribution set that is not at hand is named with the reason."""
  inputs, not_run = {'valid': dataset.valid.x, 'test': dataset.test.x}, {}
  wanted = config.evaluate.ood
  names = data.OOD_DEFAULTS.get(dataset.name, ()) if wanted == 'default' else wanted.split(',')
  for name in filter(None, names):
    try:
      inputs[f'ood/{name}'] = data.load_inputs(
        name,
        dir=config.data.dir or None,
        shape=dataset.train.x.shape[1:],
        limit=len(dataset.test.x),
        seed=config.seed,
      )
    except data.DataError as error:
      not_run[f'ood/{name}'] = str(error)
  return inputs, not_run


def _models(config, teacher, distilled, inputs) -> list[Model]:
  section = config.evaluate
  device_mesh = mesh.make(1, section.batch_size)
  run = functools.partial(
    evaluate.outputs,
    batch=section.batch_size,
    device_mesh=device_mesh,
    precision=section.precision,
  )
  method, size = teacher.method, teacher.size
  outputs = {s: run((teacher.freeze, teacher.variables), x) for s, x in inputs.items()}

  def part(start, end):
    predictive = jax.jit(functools.partial(method.objective.predictive, method.family))
    return {s: predictive(o[:, start:end]) for s, o in outputs.items()}

  models = [Model('member', [part(m, m + 1) for m in range(size)])]
  models += [Model(f'ensemble-{m}', [part(0, m)]) for m in range(2, size + 1)]
  return models + _students(distilled, inputs, run)


def _students(distilled, inputs, run) -> list[Model]:
  method = distilled.method
  predictive = jax.jit(functools.partial(method.objective.predictive, method.family))
  repeats = {}
  for seed in range(jax.tree.leaves(distilled.variables)[0].shape[0]):
    variables = jax.tree.map(lambda leaf: leaf[seed], distilled.variables)  # noqa: B023
    for name, (student, own) in method.student.views(variables).items():
      sets = {s: predictive(run((student.freeze, own), x)) for s, x in inputs.items()}
      repeats.setdefault(name, []).append(sets)
  return [Model(name, sets) for name, sets in repeats.items()]


def _metrics(dataset, sets, ensemble=None, curve=None) -> dict[str, float]:
  """Everything that one model's predictions say, by the names of results.json."""
  theirs = (ensemble or {}).get
  if dataset.family == 'categorical':
    found = metrics.summary.classification(
      sets['test'],
      dataset.test.y,
      valid_predictive=sets['valid'],
      valid_labels=dataset.valid.y,
      ensemble=theirs('test'),
      ensemble_cnll=curve,
    )
  else:
    found = metrics.summary.regression(sets['test'], dataset.test.y, ensemble=theirs('test'))
  for name, predictive in sets.items():
    if name.startswith('ood/'):
      scores = metrics.summary.ood(sets['test'], predictive, ensemble_out=theirs(name))
      found |= {f'{name}/{key}': value for key, value in scores.items()}
  return found


def _row(name, repeats, costs) -> dict:
  """Means over the repeats, and their standard errors."""
  values = {key: np.array([r[key] for r in repeats], np.float64) for key in repeats[0]}
  count = len(repeats)
  errors = {k: float(v.std(ddof=1) / count**0.5) if count > 1 else None for k, v in values.items()}
  means = {key: float(value.mean()) for key, value in values.items()}
  return {'name': name, 'seeds': count, 'se': errors, 'metrics': means | costs}


def _add_gaps(rows) -> None:
  """gap_closed/x = (member - student) / (member - ensemble), null where there is no gap."""
  member, *others = rows
  ensembles = [row for row in others if row['name'].startswith('ensemble-')]
  for row in others:
    if not row['name'].startswith('student') or not ensembles:
      continue
    for key, error in member['se'].items():
      values = [r['metrics'].get(key) for r in (member, ensembles[-1], row)]
      gap = metrics.summary.gap_closed(*values, member_se=error or 0.0)
      row['metrics'][f'gap_closed/{key}'] = gap
      if gap is not None and row['se'].get(key) is not None:
        error = metrics.summary.gap_closed_se(*values[:2], row['se'][key])
        row['se'][f'gap_closed/{key}'] = error


def _costs(config, dataset, teacher, distilled) -> dict[str, dict]:
  """Costs of one member, the whole ensemble and the student (and its average), in one run."""
  models: dict[str, tuple[Callable, Any, int]] = {}
  module, family = teacher.method.student.module, teacher.method.family
  one = jax.tree.map(lambda leaf: leaf[0], teacher.variables)
  count = cost.parameters(one)

  def wrap(outputs):
    return lambda variables, x: outputs(variables, data.as_input(x))

  single = lambda v, x: family.predictive(module.apply(v, x))
  models['member'] = wrap(single), one, count
  if teacher.size > 1:
    all_members = lambda v, x: family.predictive(teacher.freeze(v).outputs(x))
    models[f'ensemble-{teacher.size}'] = wrap(all_members), teacher.variables, count * teacher.size
  method = distilled.method
  variables = jax.tree.map(lambda leaf: leaf[0], distilled.variables)
  for name, (student, own) in method.student.views(variables).items():
    forward = lambda v, x, student=student: method.objective.predictive(
      family, student.module.apply(v, x)
    )
    models[name] = wrap(forward), own, cost.parameters(own)
  costs = cost.of_models(models, dataset.train.x.shape[1:], dataset.train.x.dtype)
  for m in range(2, teacher.size):
    costs[f'ensemble-{m}'] = {'params': count * m}
  return costs
