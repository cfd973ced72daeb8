"""Every student with every objective and perturbation, on small CIFAR-10 images.

  python -m experiments.grid.run [options of `ensdistill sweep`]

The data are those of experiments/cifar_small: make them first (see there). The protocol is the same
with fewer epochs, so that a point takes minutes.
"""

import pathlib
import sys

from experiments import plans
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
    'teacher.epochs': 20,
    'student.epochs': 20,
    'student.targets': 'online',
    'evaluate.shift': 'none',
    'evaluate.train': 'false',
  },
  teachers=2,
  seeds=1,
)


def main(options: list[str]) -> int:
  """Run the sweep; return its exit code."""
  folder = pathlib.Path(cifar_small.__file__).parent / 'data'
  if not (folder / 'cifar_small.npz').exists():
    sys.exit(
      'make the data first: python -m experiments.cifar_small.run --cifar10=FILE.npz --status'
    )
  return plans.run(PLAN, [f'--config.data.dir={folder}', *options])


if __name__ == '__main__':
  sys.exit(main(sys.argv[1:]))
