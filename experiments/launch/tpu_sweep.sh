#!/bin/bash
# A sweep on a TPU slice, one run on each host at a time instead of one run on all of them:
#   experiments/launch/tpu_sweep.sh SLICE ZONE OUT METHODS DATA[:VARIANT] [sweep options]
# OUT lies on a disk that all hosts have mounted: it holds the queue that they work through. PYTHON
# is the interpreter on the hosts.
set -eu
[ $# -ge 5 ] || { sed -n '2,6p' "$0"; exit 2; }
printf -v arguments ' %q' "$4" "$5" "--out=$3" "${@:6}"
# The variables tell the TPU's library that a run has this host alone, with four chips (2 x 2); for
# hosts with eight chips write 2,4,1. With --parallel=4 every run has one chip.
exec gcloud compute tpus tpu-vm ssh "$1" --zone="$2" --worker=all \
  --command="export TPU_PROCESS_BOUNDS=1,1,1 TPU_CHIPS_PER_PROCESS_BOUNDS=2,2,1 \
TPU_SKIP_MDS_QUERY=1 TPU_WORKER_HOSTNAMES=localhost TPU_WORKER_ID=0; \
exec ${PYTHON:-~/ensdistill/bin/python} -m ensdistill sweep$arguments"
