"""The grid as a table of closed gaps: students with objectives against perturbations."""

import pathlib

from ensdistill.evaluation.gaps import percent_closed
from ensdistill.sweep import models
from ensdistill.sweep.statistics import Estimate
from experiments import pictures, plans, sections
from experiments.grid.run import PAIRS, PLAN, PUBLISHED, SEVERAL, SINGLE, point

TITLES = {
  'kd': 'single, mean',
  'end2': 'single, dirichlet',
  'end2_proxy': 'single, proxy_dirichlet',
  'hydra': 'multi_head',
  'be_kd': 'batch_ensemble',
  'latentbe': 'batch_ensemble, averaged',
}


def files(root: pathlib.Path, results: pathlib.Path) -> dict[pathlib.Path, str | dict[str, str]]:
  """Return {README.md: {mark: text}, picture: content}."""
  del root
  found = sections.read(results)
  text, drawn = table(found), {}
  if found:
    text = f'![gap closed](heat.svg)\n\n{text}'
    drawn = {results.parent / 'heat.svg': picture(found)}
  return {results.parent / 'README.md': {'grid': text}, **drawn}


def picture(records: list[dict]) -> str:
  """Return the grid as a heat map of closed gaps, with their errors."""
  (group,) = models.by_data(records)
  cells: dict[str, dict[str, Estimate]] = {}
  for model in group.students():
    found = group.estimate(model, 'gap_closed/nll')
    if found:
      own = TITLES[model.method], model.settings.get('objective.name', '')
      row = cells.setdefault(', '.join(filter(None, own)), {})
      row[model.settings['perturb.name']] = found
  return pictures.heat(cells, PAIRS)


def table(records: list[dict]) -> str:
  """Return the table, the best points, and what is missing."""
  missing = plans.missing(PLAN, records)
  if not records:
    return f'{sections.NOT_RUN} Planned: {missing.removeprefix("Not run: ")}'
  (group,) = models.by_data(records)
  cells: dict[tuple[str, str], dict[str, str]] = {}
  points = []
  for model in group.students():
    own = point(model)
    method, objective, move = own
    found = group.estimate(model, 'gap_closed/nll')
    if found:
      share = percent_closed(found.mean, found.error)
      points.append((found.mean, f'{model.label}: {share} %', own))
      mark = '' if own in PUBLISHED else '*'
      cells.setdefault((method, objective), {})[move] = f'{share}{mark}'
  lines = [f'| student, objective | {" | ".join(PAIRS)} |', '| --- ' + '| ---: ' * len(PAIRS) + '|']
  for method in (*SINGLE, *SEVERAL):
    for objective in ('members', 'mean') if method in SEVERAL else ('',):
      row = cells.get((method, objective), {})
      title = ', '.join(filter(None, [TITLES[method], objective]))
      lines.append(f'| {title} | {" | ".join(row.get(move, "-") for move in PAIRS)} |')
  best = [text for _, text, own in sorted(points, reverse=True) if own not in PUBLISHED][:2]
  head = (
    'Share of the gap in NLL that a student closes, %, on 10,000 images that are kept for this '
    'choice. \\*: no paper tried it. '
    f'{len(records)} runs, {plans.hours(records):.1f} hours on {plans.machines(records)}.'
  )
  chosen = f'Best unpublished points: {"; ".join(best) or "none"}.'
  return '\n\n'.join(filter(None, [head, '\n'.join(lines), chosen, missing]))
