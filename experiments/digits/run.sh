#!/bin/sh
# Seven methods on digits: three teachers, two students of each. Run from the root; the same
# command continues a sweep that was stopped. Further arguments are passed on, such as --status,
# --smoke or --slice-seconds=3600. `python -m experiments.collect` then writes the tables.
exec "${PYTHON:-python}" -m ensdistill sweep \
  kd,hydra,end2,single,be_kd,be_confods,latentbe_tdiv_sdiv digits \
  --teachers=3 --seeds=2 --baseline=kd --out=experiments/digits "$@"
