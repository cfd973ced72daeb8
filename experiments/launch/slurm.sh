#!/bin/bash
# A run on several nodes of a Slurm cluster, one process for each GPU:
#   sbatch --nodes=2 --gpus-per-node=8 --ntasks-per-node=8 experiments/launch/slurm.sh \
#     hydra_cifar100 --workdir=/shared/runs/hydra
# Slurm sends SIGTERM three minutes before the time limit: the run is saved, ends with 143, and is
# queued again. A job that was cancelled is not.
#SBATCH --job-name=ensdistill
#SBATCH --time=04:00:00
#SBATCH --signal=TERM@180
#SBATCH --requeue
#SBATCH --open-mode=append
set -u
srun --kill-on-bad-exit=0 --gpu-bind=none ensdistill train "$@"
code=$?
state=$(squeue --noheader --job="$SLURM_JOB_ID" --format=%T)
if [ "$code" = 143 ] && [ "$state" = RUNNING ]; then
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
