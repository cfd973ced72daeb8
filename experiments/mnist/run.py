"""Hydra on MNIST at full size: 50 members with two hidden layers, distilled in four ways.

  python -m experiments.mnist.run --data=FOLDER [options of `ensdistill sweep`]

FOLDER holds mnist.npz, fashion_mnist.npz and notmnist.npz. It is needed once; see data.py.
"""

import argparse
import pathlib
import sys

from experiments import plans
from experiments.mnist import data
from experiments.plans import Plan

FOLDER = pathlib.Path(__file__).resolve().parent
PLAN = Plan(
  folder='mnist',
  data='mnist',
  methods=('kd', 'hydra', 'end2', 'single', 'be_kd'),
  varied=('hydra:teacher.members=50,20,10,5,2',),
  fixed={
    'network.name': 'mlp',
    'network.hidden': (200, 200),
    'augment.crop': 0,
    'teacher.members': 50,
    'teacher.together': 25,
    'evaluate.ood': 'fashion_mnist,notmnist',
    'evaluate.shift': ','.join(f'npz:mnist_rolled_{s}.npz' for s in (1, 2, 3, 4, 5)),
    'evaluate.shift_examples': 2000,
  },
)


def main(arguments: list[str] | None = None) -> int:
  """Make the data, and run the sweep; return the exit code."""
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('--data', type=pathlib.Path, metavar='FOLDER')
  given, options = parser.parse_known_args(arguments)
  folder = FOLDER / 'data'
  if given.data:
    data.make(given.data, folder)
  if not (folder / 'mnist_rolled_5.npz').exists():
    sys.exit('give --data=FOLDER, which holds ' + ', '.join(data.FILES))
  return plans.run(PLAN, [f'--config.data.dir={folder}', *options])


if __name__ == '__main__':
  sys.exit(main())
