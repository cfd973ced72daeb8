"""Run all methods of the papers and their controls on small CIFAR-10 images.

  python -m experiments.cifar_small.run --cifar10=FILE.npz [--cifar100=FILE.npz] [--first] [...]

The data are made in the folder data/ beside this file (see data.py); once they are there, the flags
of the files can be left out. --first runs one teacher and the runs that answer the first questions;
without it, the same folder continues to the whole plan. Further options are those of
`ensdistill sweep`: --slice-seconds=9000, --status, --smoke, ...
"""

import argparse
import pathlib
import sys

from experiments import plans
from experiments.cifar_small import data
from experiments.plans import Plan

FOLDER = pathlib.Path(__file__).resolve().parent
FIXED = {
  'data.name': 'cifar_small',
  'data.valid': data.VALID,
  'network.name': 'resnet',
  'network.depth': 8,
  'augment.crop': 0,
  'teacher.epochs': 40,
  'student.epochs': 40,
  'teacher.batch_size': 64,
  'student.batch_size': 64,
  # Members chosen by validation accuracy come from before they fit their training images.
  'teacher.keep': 'last',
  'student.keep': 'last',
  'validate': 'first,every=20',
  'evaluate.train': 'true',
  'evaluate.ood': 'cifar100_small',
}
PLAN = Plan(
  folder='cifar_small',
  data='cifar10:common',
  methods=(
    'kd', 'be_kd', 'be_confods', 'hydra', 'latentbe', 'latentbe_tdiv_sdiv', 'single',
    'be_ods', 'be_gaussian', 'kd_gaussian', 'be', 'multi_head', 'hydra_gaussian', 'hydra_confods',
    'end', 'end2', 'end2_proxy', 'end2_tdiv',
  ),
  varied=(
    # The teachers' training error: after 40 epochs it is zero.
    'kd,be_kd:teacher.epochs=40,15,5',
    # Steps of 1/255 per pixel, as in the papers, and longer ones.
    'be_confods,latentbe_tdiv_sdiv:perturb.eta=1.0,4.0,16.0',
    'be_ods:perturb.eta=1.0,4.0',
  ),
  fixed=FIXED,
)  # fmt: skip
FIRST = PLAN._replace(
  methods=('be_kd', 'be_confods', 'kd', 'hydra', 'latentbe', 'latentbe_tdiv_sdiv'),
  varied=(
    'kd,be_kd:teacher.epochs=40',
    'be_confods:perturb.eta=4.0,1.0',  # a step of 1.0 hardly moves the members apart: moved.py
    'latentbe_tdiv_sdiv:perturb.eta=1.0',
  ),
  teachers=1,
  seeds=1,
)


def main(arguments: list[str] | None = None) -> None:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('--cifar10', type=pathlib.Path, metavar='FILE.npz')
  parser.add_argument('--cifar100', type=pathlib.Path, metavar='FILE.npz')
  parser.add_argument('--first', action='store_true', help='one teacher, the first questions')
  given, options = parser.parse_known_args(arguments)
  folder = FOLDER / 'data'
  if given.cifar100 and not given.cifar10:
    parser.error('--cifar100=FILE.npz needs --cifar10=FILE.npz beside it')
  if given.cifar10:
    data.make(given.cifar10, given.cifar100, folder)
  if not (folder / 'cifar_small.npz').exists():
    sys.exit('give --cifar10=FILE.npz: the data are made from it')
  if not (folder / 'cifar100_small.npz').exists():
    print('without --cifar100=FILE.npz, no foreign inputs are tested', file=sys.stderr)
  sys.exit(plans.run(FIRST if given.first else PLAN, [f'--config.data.dir={folder}', *options]))


if __name__ == '__main__':
  main()
