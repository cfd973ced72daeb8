"""Seven methods on digits: three teachers, two students of each.

  python -m experiments.digits.run [options of `ensdistill sweep`]

The same command continues a sweep that was stopped.
"""

import sys

from experiments import plans
from experiments.plans import Plan

PLAN = Plan(
  folder='digits',
  data='digits',
  methods=('kd', 'hydra', 'end2', 'single', 'be_kd', 'be_confods', 'latentbe_tdiv_sdiv'),
)

if __name__ == '__main__':
  sys.exit(plans.run(PLAN, sys.argv[1:]))
