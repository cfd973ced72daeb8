"""The tables of the spirals: quality, detection, distance from the true posterior, sizes."""

import json
import pathlib

from ensdistill.evaluation.rows import STUDENT, of_name
from ensdistill.report import columns
from ensdistill.report.columns import Column
from ensdistill.sweep import statistics
from experiments import pictures, sections
from experiments.spirals.run import PLAN

COLUMNS = (
  *sections.QUALITY[:3],
  Column('prr', 'PRR %', columns.fixed(1), 'higher'),
  Column('misclassification/auroc_total', 'errors AUROC % (total)', columns.percent(1), 'higher'),
  # Without bold cells: one member has no knowledge uncertainty, and nothing detects the circle.
  Column('misclassification/auroc_knowledge', 'errors AUROC % (knowledge)', columns.percent(1)),
  Column('ood/spirals_ood/auroc_total', 'OOD AUROC % (total)', columns.percent(1)),
  Column('ood/spirals_ood/auroc_knowledge', 'OOD AUROC % (knowledge)', columns.percent(1)),
  *sections.COSTS,
)
ABOUT = (
  'Three spirals, 1,000 test points of each class, ensembles of 100 MLPs. *Errors*: detection of '
  'misclassified points. *OOD*: a circle of radius 410.'
)
SHOWN = (1, 2, 3, 5, 10, 20, 30, 50, 100)


def files(root: pathlib.Path, results: pathlib.Path) -> dict[pathlib.Path, str | dict[str, str]]:
  """Return {README.md: {mark: text}, picture: content}."""
  del root
  folder, found = results.parent, sections.read(results)
  parts = [sections.of_plan(PLAN, found, COLUMNS, ABOUT)]
  parts += [of_posterior(folder, found), of_sizes(folder), of_radii(folder)]
  contents: dict[pathlib.Path, str | dict[str, str]] = {}
  if (folder / 'sizes.json').exists():
    parts.append('![AUROC by the number of members](sizes.svg)')
    contents[folder / 'sizes.svg'] = picture(json.loads((folder / 'sizes.json').read_text()))
  contents[folder / 'README.md'] = {'spirals': '\n\n'.join(filter(None, parts))}
  return contents


def picture(rows: list[dict]) -> str:
  """Return the detection of foreign points by the number of members."""
  metrics = {'total': 'ood/spirals_ood/auroc_total', 'knowledge': 'ood/spirals_ood/auroc_knowledge'}
  curves = {name: [(row['size'], row[key]) for row in rows] for name, key in metrics.items()}
  return pictures.lines(curves, 'members', 'OOD AUROC')


def of_posterior(folder: pathlib.Path, records: list[dict]) -> str:
  """Return the table of distances from the true posterior."""
  teachers: dict[str, dict[str, dict]] = {}
  students: dict[str, dict[str, dict]] = {}
  best: dict[str, dict[tuple[int, int], float]] = {'acc': {}, 'nll': {}}
  for record in records:
    path = folder / 'posterior' / f'{job_name(record)}.json'
    if not path.exists():
      continue
    found, number = json.loads(path.read_text()), (record['teacher'], record['seed'])
    for metric, of_teacher in best.items():
      of_teacher[record['teacher'], 0] = found['posterior'][metric]
    for row in found['rows']:
      if row['metrics']['kl'] is None:
        continue
      if of_name(row['name'])['role'] == STUDENT:
        values, key = students.setdefault(record['method'], {}), number
      else:
        values, key = teachers.setdefault(row['name'], {}), (record['teacher'], 0)
      for metric, value in row['metrics'].items():
        values.setdefault(metric, {})[key] = value
  if not students:
    return ''
  lines = [
    '| model | runs | KL from the true posterior | rank of entropies |',
    '| --- | ---: | ---: | ---: |',
  ]
  for label, values in (teachers | students).items():
    cells = [cell(values[metric]) for metric in ('kl', 'entropy_rank')]
    lines.append(f'| {label} | {len(values["kl"])} | {" | ".join(cells)} |')
  reference = f'accuracy {cell(best["acc"])}, NLL {cell(best["nll"])}'
  return '\n'.join([f'The true posterior itself has {reference} on the test points.', '', *lines])


def job_name(record: dict) -> str:
  """Return the name of a record's files."""
  return f'{record["method"]}_{record["data"]}__t{record["teacher"]}_s{record["seed"]}'


def cell(values: dict) -> str:
  """Return a nested mean with its error."""
  found = statistics.nested({k: v for k, v in values.items() if v is not None})
  return found.text('{:.4f}'.format) if found else '-'


def of_sizes(folder: pathlib.Path) -> str:
  """Return the table of ensembles of different sizes from the first teacher."""
  path = folder / 'sizes.json'
  if not path.exists():
    return ''
  rows = [row for row in json.loads(path.read_text()) if row['size'] in SHOWN]
  lines = ['| members | ACC % | NLL | OOD AUROC % (total) | (knowledge) |', '| ---: ' * 5 + '|']
  for row in rows:
    ood = [row['ood/spirals_ood/auroc_total'], row['ood/spirals_ood/auroc_knowledge']]
    share = ' | '.join(f'{100 * value:.1f}' for value in ood)
    lines.append(f'| {row["size"]} | {100 * row["acc"]:.2f} | {row["nll"]:.4f} | {share} |')
  return '\n'.join(['Ensembles of the first teacher by size:', '', *lines])


def of_radii(folder: pathlib.Path) -> str:
  """Return the table of circles of several radii."""
  path = folder / 'radii.json'
  if not path.exists():
    return ''
  lines = [
    '| radius | AUROC % of the ensemble (total) | (knowledge) | of the true posterior |',
    '| ---: ' * 4 + '|',
  ]
  for row in json.loads(path.read_text()):
    aurocs = [row['auroc'][name] for name in ('total', 'knowledge', 'posterior')]
    cells = ' | '.join(f'{100 * value:.1f}' for value in aurocs)
    lines.append(f'| {row["radius"]:,} | {cells} |')
  return '\n'.join(['Circles of other radii, first teacher, all members:', '', *lines])
