"""The tables of small CIFAR-10, from results/*.json."""

import json
import pathlib

from ensdistill.report import columns
from ensdistill.report.columns import Column
from ensdistill.sweep import models, statistics
from experiments import pictures, sections
from experiments.cifar_small.run import PLAN

COLUMNS = (
  *sections.QUALITY,
  Column('pairwise_kl', 'div. KL', columns.fixed(3)),
  Column('train/pairwise_kl', 'div. KL (training)', columns.fixed(4)),
  Column('train/acc', 'ACC % (training)', columns.percent(1)),
  Column('shift/mean/3/nll', 'shifted NLL', columns.fixed(3), 'lower'),
  Column('shift/mean/3/knowledge', 'shifted MI', columns.fixed(3)),
  Column('knowledge', 'MI', columns.fixed(3)),
  Column('ood/cifar100_small/knowledge', 'OOD MI', columns.fixed(3)),
  Column('ood/cifar100_small/auroc_total', 'OOD AUROC % (total)', columns.percent(1), 'higher'),
  Column('ood/cifar100_small/auroc_knowledge', 'OOD AUROC % (knowledge)', columns.percent(1)),
  *sections.COSTS,
)
LEVELS = (40, 15, 5)  # epochs of the teacher
ABOUT = (
  'Test set: 10,000 images. *Div. KL*: mean pairwise KL of the members. *MI*: knowledge '
  'uncertainty. *Shifted*: mean over the corruptions at severity 3. *OOD*: CIFAR-100.'
)


def files(root: pathlib.Path, results: pathlib.Path) -> dict[pathlib.Path, str | dict[str, str]]:
  """Return {README.md: {mark: text}, picture: content}."""
  del root
  found = sections.read(results)
  text = sections.of_plan(PLAN, found, COLUMNS, ABOUT)
  text = '\n\n'.join(filter(None, [text, levels(found)]))
  folder, drawn = results.parent, picture(found)
  if drawn:
    text = f'![diversity and NLL of the students](diversity.svg)\n\n{text}'
  texts = {'cifar_small': text, 'moved': moved(folder)}
  return {folder / 'README.md': texts, **({folder / 'diversity.svg': drawn} if drawn else {})}


def picture(records: list[dict]) -> str:
  """Return diversity and NLL of members, ensembles and students; '' without records."""
  found = []
  for group in models.by_data(records):
    for model in group.models:
      x, y = (group.estimate(model, metric) for metric in ('pairwise_kl', 'nll'))
      if model.primary and x and y:
        found.append(pictures.Point(model.label, x, y))
  return pictures.points(found, 'pairwise KL of the members, test', 'NLL, test') if found else ''


def levels(records: list[dict]) -> str:
  """Return the table of transferred diversity by the teachers' training error."""
  head = '| teacher | training ACC % | diversity kept, training inputs | test inputs |'
  lines = [head, '| --- ' + '| ---: ' * 3 + '|']
  for epochs in LEVELS:
    label = f'be_kd (teacher.epochs={epochs})'
    parts = ('train/pairwise_kl', 'pairwise_kl')
    kept = [statistics.nested(share(records, label, metric)) for metric in parts]
    own = [record for record in records if models.kind_label(record) == label]
    groups = models.by_data(own)
    member = groups[0].estimate(groups[0].models[0], 'train/acc') if groups else None
    if None in kept or member is None:
      continue
    cells = [f'{100 * member.mean:.1f}', *(found.text(_percent) for found in kept if found)]
    lines.append(f'| {epochs} epochs | {" | ".join(cells)} |')
  title = "Share of the ensemble's diversity (pairwise KL) that `be_kd` keeps:"
  return '\n'.join([title, '', *lines]) if len(lines) > 2 else ''


def share(records: list[dict], label: str, metric: str) -> dict[tuple[int, int], float]:
  """Return {(teacher, seed): a student's value over its ensemble's}."""
  groups = models.by_data([r for r in records if models.kind_label(r) == label])
  found = {}
  for group in groups:
    for student in group.students():
      _, ensemble = group.teachers_of(student)
      theirs = ensemble.values(metric) if ensemble else {}
      for key, value in student.values(metric).items():
        if theirs.get((key[0], 0)):
          found[key] = value / theirs[key[0], 0]
  return found


def _percent(value: float) -> str:
  return f'{100 * value:.1f} %'


def moved(folder: pathlib.Path) -> str:
  """Return the table of how far perturbations move the teachers apart, from moved.json."""
  path = folder / 'moved.json'
  if not path.exists():
    return sections.NOT_RUN
  found = json.loads(path.read_text())
  head = (
    f'Teacher 0 (ACC {100 * found["train_acc"]:.1f} % on its training images, '
    f'{100 * found["test_acc"]:.1f} % on test images), {found["images"]} images of each.'
  )
  lines = [
    '| perturbation | T | η | step | training: KL, T = 1 | T = 4 | test: KL, T = 1 | T = 4 |',
    '| --- ' + '| ---: ' * 7 + '|',
  ]
  for row in found['rows']:
    numbers = [row['step'], *(row[part][t] for part in ('train', 'test') for t in ('1', '4'))]
    own = row['name'], row['temperature'] or '-', row['eta'] or '-'
    lines.append(f'| {" | ".join([*map(str, own), *(f"{v:.4f}" for v in numbers)])} |')
  return '\n'.join([head, '', *lines])
