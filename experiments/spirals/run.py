"""EnD² on three spirals at full size: 100 members, with and without auxiliary points.

  python -m experiments.spirals.run [options of `ensdistill sweep`]

After the sweep, every finished run is compared with the true posterior of the generating process
(posterior/JOB.json), and sizes.json gets the ensembles of 1 to 100 members of the first teacher.
"""

import json
import pathlib
import sys

from ensdistill.storage import safe
from experiments import plans
from experiments.plans import Plan
from experiments.spirals import posterior

FOLDER = pathlib.Path(__file__).resolve().parent
PLAN = Plan(
  folder='spirals',
  data='spirals',
  methods=('kd', 'single', 'end', 'end_aux', 'end2', 'end2_aux', 'pn'),
  fixed={'data.noise': posterior.NOISE},
)
CURVE = (
  'acc',
  'nll',
  'knowledge',
  'ood/spirals_ood/auroc_total',
  'ood/spirals_ood/auroc_knowledge',
)


def main(options: list[str]) -> int:
  """Run the sweep and what follows it; return the exit code."""
  code = plans.run(PLAN, options)
  if {'--dry-run', '--status', '--smoke'} & {*options}:
    return code
  for result in sorted((FOLDER / 'results').glob('*.json')):
    posterior.compare(FOLDER, result.stem)
  curve = sizes(FOLDER)
  if curve:
    safe.write_atomic(FOLDER / 'sizes.json', json.dumps(curve, indent=1) + '\n')
  return code


def sizes(folder: pathlib.Path) -> list[dict]:
  """Return the metrics of ensembles of 1, 2, ... members of the first teacher; [] without a run."""
  for path in sorted(folder.glob('runs/*__t0_s0/results.json')):
    rows = json.loads(path.read_text())['rows']
    teachers = [row for row in rows if row['role'] in ('member', 'ensemble')]
    return [{'size': r['size'], **{k: r['metrics'].get(k) for k in CURVE}} for r in teachers]
  return []


if __name__ == '__main__':
  sys.exit(main(sys.argv[1:]))
