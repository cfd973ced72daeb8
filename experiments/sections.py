"""The section of an experiment's README.md that its records decide."""

import pathlib
from collections.abc import Sequence

from ensdistill.report import columns
from ensdistill.report.columns import Column
from ensdistill.sweep import models, records, tables
from ensdistill.sweep.jobs import labelled
from ensdistill.sweep.models import Group, Model
from ensdistill.sweep.statistics import Estimate
from experiments import plans
from experiments.plans import Plan

NOT_RUN = 'Not run.'


def read(results: pathlib.Path) -> list[dict]:
  """Return the records of a folder; none where there are none."""
  return records.read_all(results) if any(results.glob('*.json')) else []


def of_plan(plan: Plan, found: Sequence[dict], shown: Sequence[Column], about: str) -> str:
  """Return what was run, its table against one member, the paired differences, what is missing."""
  missing = plans.missing(plan, found)
  if not found:
    return f'{NOT_RUN} Planned: {missing.removeprefix("Not run: ")}'
  (group,) = models.by_data(found)
  teachers = len({record['teacher'] for record in found})
  took = f'{len(found)} runs, {teachers} teacher(s), {plans.hours(found):.1f} hours'
  head = f'{about} {took} on {plans.machines(found)}.'
  table = tables.as_text(tables.chosen(group, shown, None))
  parts = [head, table, differences(group, plan.baseline), missing]
  return '\n\n'.join(part.strip() for part in parts if part)


def differences(group: Group, baseline: str) -> str:
  """Return a line for each student's paired difference in NLL from the baseline."""
  lines = []
  for model in group.students():
    other = models.baseline_of(group, model, baseline)
    if other is None or other is model:
      continue
    found = models.difference(model, other, 'nll')
    if found:
      lines.append(f'- `{model.label}` - `{other.label}`: {signed(found)}')
  return '\n'.join(['Paired differences in test NLL:', '', *lines]) if lines else ''


def signed(found: Estimate) -> str:
  """Return a difference with its error, and what the error is over."""
  text = found.text('{:+.4f}'.format, '{:.4f}'.format)
  return f'{text} ({found.teachers} teacher(s), {found.runs} run(s))'


def model_named(group: Group, label: str) -> Model | None:
  """Return a student by its method and settings, in the view that it was trained for."""
  own = (m for m in group.students() if labelled(m.method, m.settings) == label)
  return next(own, None)


QUALITY = (
  Column('acc', 'ACC %', columns.percent(2), 'higher'),
  Column('nll', 'NLL', columns.fixed(4), 'lower'),
  Column('ece', 'ECE %', columns.percent(2), 'lower'),
  Column('cnll', 'cNLL', columns.fixed(4), 'lower'),
)
COSTS = (columns.PARAMETERS._replace(better=''), columns.GAP)
