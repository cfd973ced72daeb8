"""The scripts that launch runs on several hosts, with stand-ins for the commands that they call."""

import os
import pathlib
import shlex
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parent.parent
LAUNCH = ROOT / 'experiments' / 'launch'


@pytest.fixture
def called(tmp_path, monkeypatch):
  """Return the function that runs a script: (exit code, what its commands were called with)."""
  folder, log = tmp_path / 'bin', tmp_path / 'log'
  folder.mkdir()

  def run(script, *arguments, **commands):
    for name, body in commands.items():
      path = folder / name
      path.write_text(f'#!/bin/sh\necho "{name} $*" >> {shlex.quote(str(log))}\n{body}\n')
      path.chmod(0o755)
    environment = os.environ | {'PATH': f'{folder}:{os.environ["PATH"]}', 'SLURM_JOB_ID': '7'}
    environment.pop('PYTHON', None)
    done = subprocess.run(['bash', LAUNCH / script, *arguments], env=environment, timeout=300)
    return done.returncode, log.read_text().splitlines() if log.exists() else []

  return run


@pytest.mark.parametrize(
  ('code', 'state', 'queued'),
  [
    (143, 'RUNNING', True),
    (143, 'COMPLETING', False),
    (1, 'RUNNING', False),
    (0, 'RUNNING', False),
  ],
)
def test_a_job_of_slurm_that_was_stopped_in_time_is_queued_again(called, code, state, queued):
  commands = {'srun': f'exit {code}', 'squeue': f'echo {state}', 'scontrol': ''}
  found, lines = called('slurm.sh', 'hydra_cifar100', '--workdir=/a b', **commands)
  assert found == code
  assert lines[0].endswith(' ensdistill train hydra_cifar100 --workdir=/a b')
  assert ('scontrol requeue 7' in lines) == queued


def test_the_commands_in_files_are_those_of_the_package():
  """What is not run here can at least be read: fields, flags and recipes."""
  yaml = pytest.importorskip('yaml')
  from ensdistill.commands import arguments

  pod = yaml.safe_load((LAUNCH / 'jobset.yaml').read_text())['spec']['replicatedJobs'][0]
  job = pod['template']['spec']
  assert job['completions'] == job['parallelism'] == 4 and job['backoffLimit'] == 0
  (container,) = job['template']['spec']['containers']
  sky = yaml.safe_load((LAUNCH / 'skypilot.yaml').read_text())
  for text in (container['args'][0], sky['run'].replace('\\\n', ' ')):
    words = shlex.split(text.partition(' train ')[2])
    for name in ('SKYPILOT_NUM_NODES', 'SKYPILOT_NODE_RANK'):
      words = [word.replace(f'${name}', '1') for word in words]
    rest, place = arguments.place(words)
    config, workdir = arguments.configuration(rest)
    assert workdir == '/shared/runs/hydra' and config.name.startswith('hydra_')
    assert (place.number is None) == (text == container['args'][0])


def test_the_costs_of_the_documentation_are_those_that_are_reckoned():
  command = [sys.executable, LAUNCH / 'costs.py']
  done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
  rows = [line for line in done.stdout.splitlines() if line.startswith('| ')]
  assert len(rows) == 29 and set(rows) <= set((ROOT / 'docs/clusters.md').read_text().splitlines())
