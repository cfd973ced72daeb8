#!/bin/sh
# Every method on digits: three teachers, two students of each. Run from the root; the same
# command continues a sweep that was stopped. Further arguments are passed on, such as --status,
# --smoke or --slice-seconds=3600. `python -m experiments.collect` then writes the tables.
exec "${PYTHON:-python}" -m ensdistill sweep \
  single,kd,kd_gaussian,end,end_aux,hydra,hydra_confods,multi_head,end2,end2_aux,end2_proxy,end2_tdiv,pn,be,be_kd,be_gaussian,be_ods,be_confods,latentbe,latentbe_tdiv_sdiv \
  digits --teachers=3 --seeds=2 --baseline=kd --out=experiments/digits "$@"
