"""experiments/launch/tpu.sh, with a `gcloud` that runs the commands of two hosts here."""

import os
import pathlib
import subprocess
import tarfile
import time

import pytest

ROOT = pathlib.Path(__file__).parent.parent
SCRIPT = ROOT / 'experiments' / 'launch' / 'tpu.sh'
GCLOUD = """#!/bin/bash
hosts="$HOSTS/0 $HOSTS/1"
for argument; do
  case $argument in
    --command=*) command=${argument#--command=} ;;
    --worker=[0-9]) hosts=$HOSTS/${argument#--worker=} ;;
  esac
done
for host in $hosts; do
  if [ "$4" = scp ]; then cp "$5" "$host/${6#*:}"; else HOME=$host bash -c "$command" || code=1; fi
done
exit ${code:-0}
"""
RUN = """#!/bin/bash
trap 'echo saved; exit 143' TERM
printf '%s\\n' "$@" > ~/arguments
env > ~/environment
echo started
while :; do sleep .02; done
"""
UV = """#!/bin/bash
printf '%s\\n' "$@" >> ~/uv
printf '#!/bin/bash\\necho ensdistill 1' > ~/ensdistill/bin/ensdistill
chmod +x ~/ensdistill/bin/ensdistill
"""


def write(path: pathlib.Path, text: str) -> None:
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_text(text)
  path.chmod(0o755)


@pytest.fixture
def hosts(tmp_path):
  """Return the home folders of two hosts, on which ensdistill, uv and sudo are recorded."""
  found = [tmp_path / '0', tmp_path / '1']
  for host in found:
    write(host / 'ensdistill' / 'bin' / 'python', RUN)
    write(host / '.local' / 'bin' / 'uv', UV)
  write(tmp_path / 'bin' / 'gcloud', GCLOUD)
  write(tmp_path / 'bin' / 'sudo', '#!/bin/bash\necho "$@" >> ~/sudo\n')
  return found


def command(tmp_path, *arguments) -> list[str]:
  path = f'PATH={tmp_path / "bin"}:{os.environ["PATH"]}'
  return ['env', path, f'HOSTS={tmp_path}', 'bash', str(SCRIPT), *arguments]


def run(tmp_path, *arguments) -> subprocess.CompletedProcess:
  given = command(tmp_path, *arguments)
  return subprocess.run(given, capture_output=True, text=True, timeout=200)


def test_a_run_gets_its_arguments_goes_on_and_stops(tmp_path, hosts):
  own = ['kd_digits:small', '--config.data.name=folder:my photos', "--config.name=it's $HOME (1)"]
  started = command(tmp_path, 'train', 'slice', 'zone', *own)
  with subprocess.Popen(started, stdout=subprocess.PIPE, text=True) as shown:
    try:
      until = time.monotonic() + 100
      while not all((host / 'arguments').exists() for host in hosts):
        assert time.monotonic() < until
        time.sleep(0.05)
      for host in hosts:
        given = (host / 'arguments').read_text().splitlines()
        assert given == ['-m', 'ensdistill', 'train', *own]
      again = run(tmp_path, 'train', 'slice', 'zone', 'kd_digits')
      assert again.returncode == 1 and again.stderr.count('runs already') == 2
    finally:
      stopped = run(tmp_path, 'stop', 'slice', 'zone')
    assert stopped.stdout.split() == ['saved', 'saved']
    assert shown.wait(100) == 0 and shown.stdout.read().split() == ['started', 'saved']
  assert 'nothing runs' in run(tmp_path, 'stop', 'slice', 'zone').stdout


def test_a_sweep_sees_the_chips_of_its_host(tmp_path, hosts):
  for host in hosts:
    write(host / 'ensdistill' / 'bin' / 'python', RUN.partition('while')[0])
  done = run(tmp_path, 'sweep', 'slice', 'zone', 'kd,hydra', 'cifar100', '--out=/shared/x')
  assert done.stdout.split() == ['started']
  for host in hosts:
    assert 'TPU_CHIPS_PER_PROCESS_BOUNDS=2,2,1' in (host / 'environment').read_text().splitlines()
    assert (host / 'arguments').read_text().split()[2:5] == ['sweep', 'kd,hydra', 'cifar100']


def test_setup_installs_this_clone_and_mounts_the_disk(tmp_path, hosts):
  write(tmp_path / 'bin' / 'mountpoint', '#!/bin/bash\nexit 1\n')
  done = run(tmp_path, 'setup', 'slice', 'zone', '10.0.0.2:/runs')
  assert done.returncode == 0, done.stderr
  assert done.stdout.count('ensdistill 1 is installed') == 2
  for host in hosts:
    assert 'mount 10.0.0.2:/runs /shared' in (host / 'sudo').read_text().splitlines()
    assert (host / 'ensdistill-source' / 'ensdistill' / 'cli.py').exists()
    assert (host / 'uv').read_text().splitlines()[-2:] == [f'{host}/ensdistill-source', 'jax[tpu]']
    with tarfile.open(host / 'ensdistill.tar.gz') as archive:
      assert {'pyproject.toml', 'README.md', 'LICENSE'} <= set(archive.getnames())


@pytest.mark.parametrize('arguments', [(), ('trian', 'slice', 'zone')])
def test_wrong_usage_shows_the_commands(tmp_path, arguments):
  done = run(tmp_path, *arguments)
  assert done.returncode == 2 and 'tpu.sh train  SLICE ZONE RECIPE' in done.stdout
  assert 'set -eu' not in done.stdout


def test_a_run_that_never_started_cannot_be_followed(tmp_path, hosts):
  done = run(tmp_path, 'follow', 'slice', 'zone')
  assert done.returncode == 1 and 'nothing was started' in done.stderr
