"""The comparison at the end of a run: a row for the member, each ensemble and the student.

Every model is its predictive distributions over the same inputs: the test set, the validation set
(which its temperature is fitted on), the out-of-distribution and the shifted sets.
"""

import collections
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from ensdistill import data, mesh, metrics
from ensdistill.config import build
from ensdistill.evaluation import cost, inference, measure, rows, sets
from ensdistill.metrics import influence


class Model(NamedTuple):
  """A row: its repeats (members, or students of several seeds), each {set: predictive}."""

  role: str
  size: int
  name: str
  repeats: list[dict[str, Any]]


class Comparison(NamedTuple):
  """Rows in the form of results.json, and what the report draws from."""

  rows: list[dict]
  models: list[Model]
  not_run: dict[str, str]  # sets that were asked for and are not at hand: why


def compare(config, dataset, teacher, distilled, writer) -> Comparison:
  """Evaluates every model on the same inputs."""
  section, not_run = config.evaluate, {}
  options = {**build.reading(config.data), 'seed': config.seed}
  inputs = sets.inputs(dataset, section.ood, not_run, **options)
  writer.line(f'evaluation on {", ".join(f"{k} ({len(x)})" for k, x in inputs.items())}')
  networks = _networks(section, dataset, teacher, distilled, inputs)
  predictions = sets.predicted(lambda x: _predictions(networks, x), inputs, not_run)
  repeat = lambda row, i: {name: rows[row][i] for name, rows in predictions.items()}
  roles = _roles(teacher.size, distilled.method.student.size)
  models = [
    Model(*roles[row], row, [repeat(row, i) for i in range(len(repeats))])
    for row, repeats in predictions['test'].items()
  ]
  whole = models[teacher.size - 1]  # the ensemble of all members
  shifted = _shifted(section, dataset, networks, writer, not_run, options, whole.name)
  for name, reason in not_run.items():
    writer.line(f'not run: {name}: {reason}')
  costs = _costs(config, dataset, teacher, distilled)
  rows, influences = [], {}
  for model in models:
    against = {}
    if model.name.startswith('student'):
      curve = [r['metrics']['cnll'] for r in rows[: teacher.size] if 'cnll' in r['metrics']]
      against = {'ensemble': whole.repeats[0], 'curve': curve or None}
    measured = [
      measure.sets(dataset, r, **against) | measure.with_means(shifted.metrics[model.name][i])
      for i, r in enumerate(model.repeats)
    ]
    fields = {'role': model.role, 'size': model.size}
    rows.append(row(model.name, measured, costs.get(model.name, {})) | fields)
    if model.name in ('member', whole.name):
      influences[model.name] = _influences(dataset, model, measured, shifted)
  _add_gaps(rows, _test_errors(influences['member'], influences[whole.name]))
  return Comparison(rows, models, not_run)


def _roles(members: int, student_members: int) -> dict[str, tuple[str, int]]:
  """Return {name: (role, size)} of all rows."""
  known = [(rows.MEMBER, 1), (rows.STUDENT, student_members), (rows.AVERAGED, 1)]
  known += [(rows.ENSEMBLE, size) for size in range(2, members + 1)]
  return {rows.name(*pair): pair for pair in known}


def _networks(section, dataset, teacher, distilled, inputs) -> list[Callable]:
  """[inputs -> (row, predictive) of every row it repeats]: the teacher, then student by student."""
  batch = min(section.batch_size, max(map(len, inputs.values())))
  settings = {
    'batch': batch,
    'device_mesh': mesh.make(1, batch),
    'precision': section.precision,
  }

  def network(method, freeze):
    predictive = functools.partial(method.objective.predictive, method.family)
    program = inference.Program(lambda v, x: predictive(freeze(v).outputs(x)), **settings)
    units = dataset.target_mean, dataset.target_std
    return lambda variables, x: inference.in_units(program(variables, x), *units)

  whole = network(teacher.method, teacher.freeze)

  def ensembles(x):
    every = whole(teacher.variables, x)
    part = lambda start, end: jax.tree.map(lambda leaf: leaf[:, start:end], every)
    yield from (('member', part(m, m + 1)) for m in range(teacher.size))
    yield from ((f'ensemble-{m}', part(0, m)) for m in range(2, teacher.size + 1))

  networks, programs, method = [ensembles], {}, distilled.method
  for seed in range(jax.tree.leaves(distilled.variables)[0].shape[0]):
    variables = jax.tree.map(lambda leaf: leaf[seed], distilled.variables)  # noqa: B023
    for name, (student, own) in method.student.views(variables).items():
      run = programs[name] = programs.get(name) or network(method, student.freeze)
      networks.append(lambda x, name=name, run=run, own=own: [(name, run(own, x))])
  return networks


def _predictions(networks, x) -> dict[str, list]:
  """{row: predictive of each of its repeats}."""
  rows = {}
  for network in networks:
    for name, predictive in network(x):
      rows.setdefault(name, []).append(predictive)
  return rows


class _Shifts(NamedTuple):
  """{row: {repeat: ...}} over all shifted sets; influences of one member and the whole ensemble."""

  metrics: dict
  influences: dict


def _shifted(section, dataset, networks, writer, not_run, options, whole: str) -> _Shifts:
  """Every row on every shifted set; one set is held at a time."""
  repeats = lambda: collections.defaultdict(lambda: collections.defaultdict(dict))
  found, seen = _Shifts(repeats(), repeats()), set()
  options = {name: options[name] for name in ('dir', 'seed', 'unreadable')}
  options['examples'] = section.shift_examples
  for kind, severity, x, y in sets.shifted(dataset, section.shift, not_run, **options):
    if kind not in seen:
      writer.line(f'evaluation on shift/{kind} ({len(x)})')
      seen.add(kind)
    for row, repeats in _predictions(networks, x).items():
      for i, predictive in enumerate(repeats):
        found.metrics[row][i] |= measure.shifted(kind, severity, predictive, y)
        if row in ('member', whole):
          influences = measure.shifted_influences(kind, severity, predictive, y)
          found.influences[row][i] |= influences
  return found


def _influences(dataset, model, measured, shifted) -> dict[str, tuple]:
  """Of the examples on a row's metrics."""
  return influence.mean(
    [
      measure.influences(dataset, repeat, metrics.get('temperature', 1.0))
      | measure.with_means(shifted.influences[model.name][i], influence.average)
      for i, (repeat, metrics) in enumerate(zip(model.repeats, measured))
    ]
  )


def _test_errors(member, ensemble) -> dict[str, float]:
  """{metric: standard error of the gap between two rows, by the number of test examples}."""
  return {key: influence.error(member[key], ensemble[key]) for key in member if key in ensemble}


def row(name, repeats, costs) -> dict:
  """Means over the repeats, and their standard errors."""
  means, errors = {}, {}
  for key in repeats[0]:
    values = np.array([r[key] for r in repeats], np.float64)
    values = values[np.isfinite(values)]  # one without an error has no rejection ratio, say
    means[key] = float(values.mean()) if len(values) else float('nan')
    spread = float(values.std(ddof=1) / len(values) ** 0.5) if len(values) > 1 else float('nan')
    errors[key] = spread if len(repeats) > 1 else None
  return {'name': name, 'seeds': len(repeats), 'se': errors, 'metrics': means | costs}


def _add_gaps(rows, test_errors=None) -> None:
  """gap_closed/x = (member - student) / (member - ensemble), null where there is no gap.

  test_errors: {metric: standard error of the gap by the number of test examples}, as far as known.
  """
  member, *others = rows
  ensembles = [row for row in others if row['name'].startswith('ensemble-')]
  for row in others:
    if not row['name'].startswith('student') or not ensembles:
      continue
    for key, error in member['se'].items():
      values = [r['metrics'].get(key) for r in (member, ensembles[-1], row)]
      errors = {'member_se': error or 0.0, 'test_se': (test_errors or {}).get(key, 0.0)}
      gap = metrics.summary.gap_closed(*values, **errors)
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
  for m in range(2, teacher.size + 1):
    # XLA counts the body of a loop over members once, so the ensemble's operations are multiplied.
    flops = costs['member']['flops']
    own = {'params': count * m, 'flops': flops and flops * m}
    costs[f'ensemble-{m}'] = costs.get(f'ensemble-{m}', {}) | own
  return costs
