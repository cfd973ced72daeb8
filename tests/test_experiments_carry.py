"""The state of a sweep in parts: packed, carried to another folder, and continued there."""

import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from ensdistill.storage import safe
from experiments import carry

ROOT = pathlib.Path(__file__).parent.parent


def state(folder, seed=0):
  """Write a folder like that of a sweep."""
  content = np.random.default_rng(seed)
  for name, size in (
    ('teachers/a/member_000.safetensors', 5000),
    ('runs/kd__t0_s0/checkpoints/student/7/x.bin', 3000),
    ('results/kd__t0_s0.json', 10),
    ('queue/kd__t0_s0.log', 0),
  ):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.bytes(size))
  (folder / 'queue' / 'kd__t0_s0.lock').touch()
  (folder / 'runs' / 'kd__t0_s0' / 'empty').mkdir(exist_ok=True)
  (folder / 'summary.md').write_text('not carried')


def files(folder):
  return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob('*') if p.is_file()}


def test_the_state_is_the_same_elsewhere(tmp_path):
  state(tmp_path / 'here')
  count = carry.pack(tmp_path / 'here', tmp_path / 'parts', size=4096)
  parts = sorted((tmp_path / 'parts').glob('part_*'))
  assert count == len(parts) > 3 and all(part.stat().st_size <= 4096 for part in parts)
  (tmp_path / 'there' / 'results').mkdir(parents=True)
  (tmp_path / 'there' / 'results' / 'old.json').write_text('of another state')
  carry.unpack(tmp_path / 'parts', tmp_path / 'there')
  wanted = files(tmp_path / 'here')
  del wanted['summary.md'], wanted['queue/kd__t0_s0.lock']
  assert files(tmp_path / 'there') == wanted
  assert (tmp_path / 'there' / 'runs' / 'kd__t0_s0' / 'empty').is_dir()


def test_parts_that_have_not_changed_stay_and_too_many_go(tmp_path):
  state(tmp_path / 'here')
  carry.pack(tmp_path / 'here', tmp_path / 'parts', size=1024)
  first = {p.name: p.stat().st_mtime_ns for p in (tmp_path / 'parts').glob('part_*')}
  (tmp_path / 'here' / 'results' / 'kd__t0_s0.json').write_bytes(b'1')
  carry.pack(tmp_path / 'here', tmp_path / 'parts', size=1024)
  after = {p.name: p.stat().st_mtime_ns for p in (tmp_path / 'parts').glob('part_*')}
  assert after['part_00000'] == first['part_00000'] and after != first
  carry.pack(tmp_path / 'here', tmp_path / 'parts', size=2**20)
  assert [p.name for p in (tmp_path / 'parts').glob('part_*')] == ['part_00000']


@pytest.mark.parametrize('damage', ['part', 'missing', 'manifest'])
def test_damaged_parts_are_refused_and_nothing_is_changed(tmp_path, damage):
  state(tmp_path / 'here')
  carry.pack(tmp_path / 'here', tmp_path / 'parts', size=4096)
  part, manifest = tmp_path / 'parts' / 'part_00001', tmp_path / 'parts' / 'manifest.json'
  state(tmp_path / 'there', seed=1)
  before = files(tmp_path / 'there')
  if damage == 'part':
    part.write_bytes(b'x' + part.read_bytes()[1:])
  elif damage == 'missing':
    part.unlink()
  else:
    manifest.write_text('{')
  name = 'manifest.json' if damage == 'manifest' else 'part_00001'
  with pytest.raises(ValueError, match=f'{name}.*copy it again'):
    carry.unpack(tmp_path / 'parts', tmp_path / 'there')
  assert files(tmp_path / 'there') == before
  with pytest.raises(SystemExit, match='copy it again'):
    carry.main(['unpack', str(tmp_path / 'parts'), str(tmp_path / 'there')])


def test_a_sweep_that_runs_is_refused(tmp_path):
  state(tmp_path / 'here')
  with safe.lock(tmp_path / 'here' / 'queue' / 'kd__t0_s0.lock'):
    with pytest.raises(ValueError, match='stop the sweep first'):
      carry.pack(tmp_path / 'here', tmp_path / 'parts')


TINY = (
  '--only=gate',
  '--config.data.valid=50',
  '--config.network.name=mlp',
  '--config.network.hidden=(16,)',
  '--config.teacher.epochs=0',
  '--config.teacher.steps=1500',
  '--config.teacher.members=2',
  '--config.student.epochs=0',
  '--config.student.steps=1500',
  '--config.teacher.batch_size=32',
  '--config.student.batch_size=32',
  '--config.validate=',
  '--config.scores=5',
  '--config.checkpoint_seconds=0.2',
  '--config.steps_per_call=20',
  '--config.evaluate.shift=none',
)


def full(data, out, until=''):
  """Run the gate's stage in a process on one core.

  It is stopped by SIGTERM, up to three seconds after files of this pattern are there.
  """
  arguments = ['-m', 'experiments.full.run', f'--data={data}', f'--out={out}', *TINY]
  cores = os.sched_getaffinity(0)
  os.sched_setaffinity(0, [min(cores)])  # the process inherits it
  try:
    process = subprocess.Popen(
      [sys.executable, *arguments],
      cwd=ROOT,
      env=os.environ | {'JAX_PLATFORMS': 'cpu'},
      stdout=subprocess.PIPE,
      stderr=subprocess.STDOUT,
      text=True,
    )
  finally:
    os.sched_setaffinity(0, cores)
  if until:
    while process.poll() is None and not any(out.glob(until)):
      time.sleep(0.05)
    time.sleep(random.uniform(0, 3))
    process.send_signal(signal.SIGTERM)
  return process.communicate(timeout=300)[0], process.returncode


def numbers(folder):
  """Return what of a result does not depend on time or machine."""
  (path,) = (folder / 'results').glob('*.json')
  record = json.loads(path.read_text())
  for row in record['rows']:
    row['metrics'] = {k: v for k, v in row['metrics'].items() if not k.startswith('ms_per')}
    row['se'] = {k: v for k, v in row['se'].items() if not k.startswith('ms_per')}
  return {name: record[name] for name in ('rows', 'config', 'ensemble', 'data_content')}


@pytest.mark.slow
def test_stopped_moved_and_continued_equals_uninterrupted(tmp_path):
  generator = np.random.default_rng(0)
  x = generator.integers(0, 256, (400, 32, 32, 3), np.uint8)
  y = np.arange(400) % 10
  np.savez(tmp_path / 'cifar10.npz', x_train=x, y_train=y, x_test=x[:100], y_test=y[:100])
  said, code = full(tmp_path, tmp_path / 'whole')
  assert code == 0, said
  wanted = numbers(tmp_path / 'whole')
  here, stops = tmp_path / 'machine_0', 0
  for until in ('teachers/*/checkpoints/*/*', 'runs/*/checkpoints/*/*'):  # of the last machine
    said, code = full(tmp_path, here, until)
    assert code in (0, 143), said  # 0: it had finished within the three seconds
    stops += code != 0
    carry.main(['pack', str(here), str(tmp_path / 'parts')])
    here = tmp_path / f'machine_{stops}'
    carry.main(['unpack', str(tmp_path / 'parts'), str(here)])
  said, code = full(tmp_path, here)
  assert code == 0, said
  assert stops and numbers(here) == wanted
