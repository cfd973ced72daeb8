"""The tables of small CIFAR-10, from results/*.json."""

import json
import pathlib

from ensdistill.report import columns
from ensdistill.report.columns import Column
from experiments import sections
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
  Column(
    'ood/cifar100_small/auroc_knowledge', 'OOD AUROC % (knowledge)', columns.percent(1), 'higher'
  ),
  *sections.COSTS,
)
ABOUT = (
  'Test set: 10,000 images. *Div. KL*: mean pairwise KL of the members. *MI*: knowledge '
  'uncertainty. *Shifted*: mean over the corruptions at severity 3. *OOD*: CIFAR-100.'
)


def files(root: pathlib.Path, results: pathlib.Path) -> dict[pathlib.Path, dict[str, str]]:
  """Return {README.md: {mark: text}}."""
  del root
  found = sections.read(results)
  text = sections.of_plan(PLAN, found, COLUMNS, ABOUT)
  return {results.parent / 'README.md': {'cifar_small': text, 'moved': moved(results.parent)}}


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
