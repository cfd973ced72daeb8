#!/bin/sh
# A sweep on a TPU slice, one run on each host at a time instead of one run on all of them:
#   experiments/launch/tpu_sweep.sh SLICE ZONE OUT METHODS DATA[:VARIANT] [sweep options]
# OUT lies on a disk that all hosts have mounted: it holds the queue that they work through.
set -eu
[ $# -ge 5 ] || { sed -n '2,5p' "$0"; exit 2; }
slice=$1 zone=$2 out=$3 methods=$4 data=$5
shift 5
# The variables tell the TPU's library that a run has this host alone, with four chips (2 x 2); for
# hosts with eight chips write 2,4,1. With --parallel=4 every run has one chip.
exec gcloud compute tpus tpu-vm ssh "$slice" --zone="$zone" --worker=all \
  --command="export TPU_PROCESS_BOUNDS=1,1,1 TPU_CHIPS_PER_PROCESS_BOUNDS=2,2,1 \
TPU_SKIP_MDS_QUERY=1 TPU_WORKER_HOSTNAMES=localhost TPU_WORKER_ID=0; \
exec ensdistill sweep $methods $data --out=$out $*"
