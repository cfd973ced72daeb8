"""The tables of MNIST: quality, foreign and moved inputs, and the number of heads."""

import pathlib

from ensdistill.report import columns
from ensdistill.report.columns import Column
from experiments import sections
from experiments.mnist.run import PLAN

COLUMNS = (
  *sections.QUALITY,
  *(
    Column(f'ood/{name}/auroc_{kind}', f'{title} AUROC % ({kind})', columns.percent(1), 'higher')
    for name, title in (('fashion_mnist', 'Fashion'), ('notmnist', 'notMNIST'))
    for kind in ('total', 'knowledge')
  ),
  Column('shift/mnist_rolled/3/nll', 'moved NLL', columns.fixed(3), 'lower'),
  Column('shift/mnist_rolled/3/knowledge', 'moved MI', columns.fixed(3)),
  Column('knowledge', 'MI', columns.fixed(4)),
  Column('agreement_knowledge', 'rank of knowledge', columns.fixed(3), 'higher'),
  *sections.COSTS,
)
ABOUT = (
  'MNIST, ensembles of 50 MLPs of two hidden layers of 200. *Moved*: test images moved cyclically '
  'by 6 pixels. `teacher.members` is the number of heads and of members that they learn from.'
)


def files(root: pathlib.Path, results: pathlib.Path) -> dict[pathlib.Path, dict[str, str]]:
  """Return {README.md: {mark: text}}."""
  del root
  text = sections.of_plan(PLAN, sections.read(results), COLUMNS, ABOUT)
  return {results.parent / 'README.md': {'mnist': text}}
