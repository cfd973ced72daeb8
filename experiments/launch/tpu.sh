#!/bin/sh
# A run on all hosts of a TPU slice that exists (docs/clusters.md makes one):
#   experiments/launch/tpu.sh SLICE ZONE WORKDIR RECIPE[:VARIANT] [settings]
# WORKDIR lies on a disk that all hosts have mounted. The same command continues the run.
set -eu
[ $# -ge 4 ] || { sed -n '2,5p' "$0"; exit 2; }
slice=$1 zone=$2 workdir=$3 recipe=$4
shift 4
# gcloud runs one line in a shell on every host; JAX finds the other hosts by itself.
exec gcloud compute tpus tpu-vm ssh "$slice" --zone="$zone" --worker=all \
  --command="exec ensdistill train $recipe --workdir=$workdir $*"
