"""Every student with every objective and perturbation, on small CIFAR-10 images.

  python -m experiments.grid.run [--final] [options of `ensdistill sweep`]

The data are those of experiments/cifar_small: make them first (see there). The protocol is the same
with fewer epochs, so that a point takes minutes, and other images in place of the test images.
--final runs the best two points that no paper tried, and each paper's best, in the protocol and
the folder of experiments/cifar_small, over three teachers and three seeds.
"""

import argparse
import pathlib
import sys

from ensdistill.sweep import models
from ensdistill.sweep.models import Model
from experiments import plans, sections
from experiments.cifar_small import run as cifar_small
from experiments.plans import Plan

SINGLE, SEVERAL = ('kd', 'end2', 'end2_proxy'), ('hydra', 'be_kd', 'latentbe')
MOVES = ('none', 'gaussian', 'ods', 'conf_ods', 'tdiv')
PAIRS = (*MOVES, 'tdiv_sdiv')  # SDiv needs two student members
PLAN = Plan(
  folder='grid',
  data='cifar10:common',
  methods=(*SINGLE, *SEVERAL),
  varied=(
    f'{",".join(SINGLE)}:perturb.name={",".join(MOVES)}',
    f'{",".join(SEVERAL)}:perturb.name={",".join(PAIRS)}',
    f'{",".join(SEVERAL)}:objective.name=members,mean',
  ),
  fixed=cifar_small.FIXED
  | {
    'data.name': 'cifar_grid',
    'teacher.epochs': 20,
    'student.epochs': 20,
    'student.targets': 'online',
    'student.phases': 1,  # TDiv-SDiv needs all heads from the start
    'evaluate.shift': 'none',
    'evaluate.train': 'false',
  },
  teachers=2,
  seeds=1,
)


PUBLISHED = {
  ('kd', '', 'none'), ('kd', '', 'gaussian'), ('end2', '', 'none'), ('end2_proxy', '', 'none'),
  ('hydra', 'members', 'none'), ('latentbe', 'members', 'none'),
  ('latentbe', 'members', 'tdiv_sdiv'),
  *(('be_kd', 'members', move) for move in ('none', 'gaussian', 'ods', 'conf_ods')),
}  # fmt: skip


def point(model: Model) -> tuple[str, str, str]:
  """Return method, objective ('' for the method's own) and perturbation of a student."""
  return model.method, model.settings.get('objective.name', ''), model.settings['perturb.name']


def final(records: list[dict]) -> list[Plan]:
  """Return the plans that compare the best two unpublished points with each paper's best.

  The points are chosen by the gap closed on the images of the grid, which are not the test images.
  """
  (group,) = models.by_data(records)
  closed = {point(m): group.estimate(m, 'gap_closed/nll') for m in group.students()}
  known = {own: found.mean for own, found in closed.items() if found}
  ranked = sorted(known, key=lambda own: known[own], reverse=True)
  chosen = [own for own in ranked if own not in PUBLISHED][:2]
  for family in FAMILIES:
    chosen += [own for own in ranked if own in PUBLISHED and own[0] in family][:1]
  return [_alone(*own) for own in chosen]


def _alone(method: str, objective: str, move: str) -> Plan:
  """Return the plan of one point in the protocol of experiments/cifar_small."""
  varied = [f'{method}:perturb.name={move}']
  if objective:
    varied.append(f'{method}:objective.name={objective}')
  return Plan(
    folder='cifar_small',
    data=PLAN.data,
    methods=(method,),
    varied=tuple(varied),
    fixed=cifar_small.FIXED | {'student.targets': 'online', 'student.phases': 1},
    seeds=3,
  )


FAMILIES = (('kd',), ('end2', 'end2_proxy'), ('hydra',), ('be_kd',), ('latentbe',))


def main(arguments: list[str] | None = None) -> int:
  """Run the sweep; return its exit code."""
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('--final', action='store_true', help='the best points, over more runs')
  given, options = parser.parse_known_args(arguments)
  folder = pathlib.Path(cifar_small.__file__).parent / 'data'
  if not (folder / 'cifar_small.npz').exists():
    sys.exit(
      'make the data first: python -m experiments.cifar_small.run --cifar10=FILE.npz --status'
    )
  found = sections.read(PLAN.path / 'results') if given.final else []
  if given.final and not found:
    sys.exit('--final chooses among the results of the grid: run it first')
  code = 0
  for plan in final(found) if given.final else [PLAN]:
    code = plans.run(plan, [f'--config.data.dir={folder}', *options]) or code
  return code


if __name__ == '__main__':
  sys.exit(main())
