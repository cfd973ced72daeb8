"""The tables of the full protocol: the gate first, and without it no distilled result."""

import pathlib

from ensdistill.report import columns
from ensdistill.report.columns import Column
from experiments import plans, sections
from experiments.full import gate
from experiments.full.run import STAGES

COLUMNS = (
  *sections.QUALITY,
  Column('dee', 'DEE', columns.fixed(2), 'higher'),
  Column('pairwise_kl', 'div. KL', columns.fixed(3)),
  Column('prr', 'PRR %', columns.fixed(1), 'higher'),
  *sections.COSTS,
)


def files(root: pathlib.Path, results: pathlib.Path) -> dict[pathlib.Path, dict[str, str]]:
  """Return {README.md: {mark: text}}."""
  del root
  found = sections.read(results)
  parts = [gate.sentence(found)]
  if gate.passed(found):
    for name, plan in STAGES.items():
      data, _, variant = plan.data.partition(':')
      own = [r for r in found if (r['data'], r['variant']) == (data, variant)]
      if name != 'gate':
        parts.append(f'### {plan.data}\n\n{sections.of_plan(plan, own, COLUMNS, "")}')
  else:
    stages = {name: plan for name, plan in STAGES.items() if name != 'gate'}
    counts = ', '.join(f'`{n}` ({len(plans_of(p))})' for n, p in stages.items())
    parts.append(f'{sections.NOT_RUN} Stages, with their runs: {counts}.')
  return {results.parent / 'README.md': {'full': '\n\n'.join(parts)}}


def plans_of(plan: plans.Plan) -> list[tuple[str, int, int]]:
  """Return (label, teacher, seed) of all runs of a plan."""
  numbers = [(t, s) for t in range(plan.teachers) for s in range(plan.seeds)]
  return [(label, t, s) for label in plan.labels() for t, s in numbers]
