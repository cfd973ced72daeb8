#!/bin/bash
# A run on all hosts of a TPU slice that exists (docs/clusters.md makes one):
#   experiments/launch/tpu.sh SLICE ZONE WORKDIR RECIPE[:VARIANT] [settings]
# WORKDIR lies on a disk that all hosts have mounted. The same command continues the run. PYTHON is
# the interpreter on the hosts.
set -eu
[ $# -ge 4 ] || { sed -n '2,6p' "$0"; exit 2; }
# gcloud runs one line in a shell on every host, so arguments are quoted for it. JAX finds the other
# hosts by itself.
printf -v arguments ' %q' "$4" "--workdir=$3" "${@:5}"
exec gcloud compute tpus tpu-vm ssh "$1" --zone="$2" --worker=all \
  --command="exec ${PYTHON:-~/ensdistill/bin/python} -m ensdistill train$arguments"
