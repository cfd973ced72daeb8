#!/bin/sh
# One machine with several GPUs. One process drives all of them, so a run needs no launcher:
#   experiments/launch/gpus.sh hydra_cifar100 --workdir=runs/hydra
# The same command continues a run that was stopped. Small networks use a machine better if runs lie
# side by side: `ensdistill sweep kd,hydra cifar100` starts one on each GPU.
set -eu
export XLA_PYTHON_CLIENT_MEM_FRACTION="${XLA_PYTHON_CLIENT_MEM_FRACTION:-0.92}"
exec "${PYTHON:-python}" -m ensdistill train "$@"
