#!/bin/bash
# Work on a TPU slice from your own machine (docs/clusters.md makes the slice):
#   tpu.sh setup  SLICE ZONE [ADDRESS:/SHARE]         install this clone; mount a disk as /shared
#   tpu.sh train  SLICE ZONE RECIPE [options]         `ensdistill train`: one run on all hosts
#   tpu.sh sweep  SLICE ZONE METHODS DATA [options]   `ensdistill sweep`: runs of one host each
#   tpu.sh follow SLICE ZONE                          show what the first host prints
#   tpu.sh stop   SLICE ZONE                          save the run and end it, on all hosts
# A run goes on when this machine is closed, and Ctrl-C ends only what is shown. `train` again
# continues a run that ended. On several hosts, name a folder that all of them see, in `train`
# --workdir=/shared/..., in `sweep` --out=/shared/....
set -eu

usage() {
  sed -n '2,/^set/{/^set/!p}' "$0"
  exit 2
}
[ $# -ge 3 ] || usage
action=$1 slice=$2 zone=$3
shift 3

# A host keeps the process of a run in ensdistill.pid, and what it prints in ensdistill.log.
# shellcheck disable=SC2016  # the hosts expand these
running='pid=$(cat ~/ensdistill.pid 2>/dev/null) && grep -qs ensdistill /proc/$pid/cmdline'

on() { # on WORKER COMMAND: run a command of bash on one host, or on all
  gcloud compute tpus tpu-vm ssh "$slice" --zone="$zone" --worker="$1" --command="$2"
}

setup() {
  local archive disk=${1:-} # of the shared disk, or empty
  archive=$(mktemp -d)/ensdistill.tar.gz
  cd "$(dirname "$0")/../.."
  tar --exclude=__pycache__ -czf "$archive" ensdistill pyproject.toml setup.py README.md LICENSE
  gcloud compute tpus tpu-vm scp "$archive" "$slice:ensdistill.tar.gz" --zone="$zone" --worker=all
  # The Python of these machines may be too old: uv brings its own.
  on all "set -e
if [ -n '$disk' ] && ! mountpoint -q /shared; then
  sudo apt-get -qq -o DPkg::Lock::Timeout=600 install nfs-common > /dev/null
  sudo mkdir -p /shared
  sudo mount '$disk' /shared
  sudo chmod 777 /shared
fi
[ -x ~/.local/bin/uv ] || curl -LsSf https://astral.sh/uv/install.sh | sh
rm -rf ~/ensdistill-source
mkdir ~/ensdistill-source
tar -xzf ~/ensdistill.tar.gz -C ~/ensdistill-source
~/.local/bin/uv venv --quiet --allow-existing --python 3.12 ~/ensdistill
~/.local/bin/uv pip install --quiet --python ~/ensdistill/bin/python \
  --reinstall-package ensdistill ~/ensdistill-source 'jax[tpu]'
echo \"\$(hostname): \$(~/ensdistill/bin/ensdistill --version) is installed\""
}

start() { # start COMMAND [ARGUMENT...], in the background
  local arguments
  printf -v arguments ' %q' "$@" # a shell on every host reads them again
  on all "if $running; then
  echo \"\$(hostname): process \$pid runs already: use follow or stop\" >&2
  exit 1
fi
export PYTHONUNBUFFERED=1 ${environment:-}
nohup ~/ensdistill/bin/python -m ensdistill$arguments > ~/ensdistill.log 2>&1 < /dev/null &
echo \$! > ~/ensdistill.pid"
}

follow() {
  # shellcheck disable=SC2016
  on 0 '[ -f ~/ensdistill.pid ] || { echo "$(hostname): nothing was started" >&2; exit 1; }
tail -n +1 -F --pid="$(cat ~/ensdistill.pid)" ~/ensdistill.log'
}

stop() {
  on all "if $running; then kill \$pid; else echo \"\$(hostname): nothing runs\"; fi
while $running; do sleep 1; done
tail -qn 1 ~/ensdistill.log 2>/dev/null || true"
}

case $action in
  setup | stop | follow) "$action" "$@" ;;
  train)
    start train "$@"
    follow
    ;;
  sweep)
    # TPU's library sees the chips of one host alone: CHIPS=X,Y,1 is how they lie. A slice of
    # several hosts has four on each; one host of eight needs CHIPS=2,4,1. A run has all chips of
    # its host; with --parallel=4, one chip.
    environment="TPU_PROCESS_BOUNDS=1,1,1 TPU_CHIPS_PER_PROCESS_BOUNDS=${CHIPS:-2,2,1} \
TPU_SKIP_MDS_QUERY=1 TPU_WORKER_HOSTNAMES=localhost TPU_WORKER_ID=0"
    start sweep "$@"
    follow
    ;;
  *) usage ;;
esac
