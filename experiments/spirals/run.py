"""EnD² on three spirals at full size: 100 members, with and without auxiliary points.

  python -m experiments.spirals.run [options of `ensdistill sweep`]

After the sweep, every finished run is compared with the true posterior of the generating process
(posterior/JOB.json), sizes.json gets the ensembles of 1 to 100 members of the first teacher, and
radii.json how well it tells circles of several radii from the test points.
"""

import argparse
import json
import pathlib
import sys

from ensdistill.storage import safe
from experiments import plans
from experiments.plans import Plan
from experiments.spirals import posterior, radii

FOLDER = pathlib.Path(__file__).resolve().parent
PLAN = Plan(
  folder='spirals',
  data='spirals',
  methods=('kd', 'single', 'end', 'end_aux', 'end2', 'end2_aux', 'pn'),
  fixed={'data.noise': posterior.NOISE, 'data.per_class': posterior.PER_CLASS},
)
CURVE = (
  'acc',
  'nll',
  'knowledge',
  'ood/spirals_ood/auroc_total',
  'ood/spirals_ood/auroc_knowledge',
)


def main(arguments: list[str] | None = None) -> int:
  """Run the sweep and what follows it; return the exit code."""
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('--out', type=pathlib.Path, default=FOLDER, metavar='DIR')
  given, options = parser.parse_known_args(arguments)
  folder = given.out
  code = plans.run(PLAN, options, folder)
  if {'--dry-run', '--status', '--smoke'} & {*options}:
    return code
  for result in sorted((folder / 'results').glob('*.json')):
    posterior.compare(folder, result.stem)
  for name, measure in (('sizes', sizes), ('radii', radii.measure)):
    found = measure(folder)
    if found:
      safe.write_atomic(folder / f'{name}.json', json.dumps(found, indent=1) + '\n')
  return code


def sizes(folder: pathlib.Path) -> list[dict]:
  """Return the metrics of ensembles of 1, 2, ... members of the first teacher; [] without a run."""
  for path in sorted(folder.glob('runs/*__t0_s0/results.json')):
    rows = json.loads(path.read_text())['rows']
    teachers = [row for row in rows if row['role'] in ('member', 'ensemble')]
    return [{'size': r['size'], **{k: r['metrics'].get(k) for k in CURVE}} for r in teachers]
  return []


if __name__ == '__main__':
  sys.exit(main())
