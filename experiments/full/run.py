"""The full protocol on CIFAR: one protocol for all methods, then the settings of each paper.

  python -m experiments.full.run --data=FOLDER [--slice-seconds=N] [--only=STAGE,...] [...]

FOLDER holds cifar10.npz and cifar100.npz (x_train, y_train, x_test, y_test as uint8). Sets that
are not there (SVHN, LSUN, CIFAR-10-C) are left out, and named in the results. The stages run one
after the other in one folder; the same command continues. --slice-seconds=N stops after N seconds
in all. `python -m experiments.carry pack experiments/full PARTS` packs the state into files of at
most 16 MiB for another machine. Further options are those of `ensdistill sweep`: --smoke, --status,
--teachers=1, ...

The first stage trains WRN-28-1 on CIFAR-10. Unless a single network of it reaches 92.87 ± 0.4 %,
no distilled result is shown, and the later stages do not start.
"""

import argparse
import pathlib
import sys
import time

from ensdistill.commands.sweep import UNFINISHED
from ensdistill.commands.usage import pipe_may_close
from ensdistill.config import recipes
from experiments import plans, sections
from experiments.full import gate
from experiments.plans import Plan

FOLDER = pathlib.Path(__file__).resolve().parent
COMMON = (
  'kd', 'be_kd', 'be_confods', 'latentbe', 'latentbe_tdiv_sdiv', 'hydra', 'end2', 'end2_proxy',
  'single', 'be', 'be_gaussian', 'be_ods', 'kd_gaussian', 'end', 'multi_head',
)  # fmt: skip


def _stages() -> dict[str, Plan]:
  """Return {name: plan}, in the order in which they run."""
  found = {'gate': Plan('full', 'cifar10:common', ('single',), teachers=1, seeds=1)}
  for data in ('cifar10', 'cifar100'):
    found[f'{data}_common'] = Plan('full', f'{data}:common', COMMON)
  for data in ('cifar10', 'cifar100'):
    for variant in ('paper', 'paper2', 'paper3', 'paper4'):
      methods = tuple(m for m in recipes.METHODS if _is_own(f'{m}_{data}', variant))
      found[f'{data}_{variant}'] = Plan(
        'full', f'{data}:{variant}', methods, teachers=1, seeds=3 if variant == 'paper' else 1
      )
  return found


def _is_own(recipe: str, variant: str) -> bool:
  """Return whether a recipe has a variant that does not repeat its variant `paper`."""
  found = recipes.OF_PAPERS.get((recipe, variant))
  return found is not None and (
    variant == 'paper' or found != recipes.OF_PAPERS.get((recipe, 'paper'))
  )


STAGES = _stages()


def main(arguments: list[str] | None = None) -> int:
  """Run the stages that are left; return the exit code of the first one that does not finish."""
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('--data', required=True, metavar='FOLDER')
  parser.add_argument('--slice-seconds', type=int, metavar='N', help='of all stages together')
  parser.add_argument('--only', default=','.join(STAGES), metavar='STAGE,...', help='these stages')
  parser.add_argument('--out', type=pathlib.Path, default=FOLDER, metavar='DIR')
  given, options = parser.parse_known_args(arguments)
  unknown = [name for name in given.only.split(',') if name not in STAGES]
  if unknown:
    parser.error(f'--only={given.only}: the stages are {", ".join(STAGES)}')
  end = given.slice_seconds and time.monotonic() + given.slice_seconds
  shows = {'--smoke', '--dry-run', '--status'} & {*options}
  for name in given.only.split(','):
    print(f'stage {name}', flush=True)
    if name != 'gate' and not shows and not gate.passed(sections.read(given.out / 'results')):
      print(gate.sentence(sections.read(given.out / 'results')), file=sys.stderr)
      return 1
    limit = []
    if end:
      limit = [f'--slice-seconds={max(1, round(end - time.monotonic()))}']
    own = [f'--config.data.dir={given.data}', *limit, *options]
    code = plans.run(STAGES[name], own, given.out)
    if code and not shows:
      return code
    if end and time.monotonic() >= end and not shows:
      return UNFINISHED
  return 0


if __name__ == '__main__':
  with pipe_may_close():
    sys.exit(main())
