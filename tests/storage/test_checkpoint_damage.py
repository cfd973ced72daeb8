"""Damaged checkpoints and interrupted saves: an older step is used, and never a wrong number."""

import os
import pathlib
import random
import re
import shutil
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from checkpoints import assert_same, make_state, steps

from ensdistill.storage import checkpoint

# ---- damage


def flip(path, rng):
  content = bytearray(path.read_bytes())
  content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
  path.write_bytes(content)


def test_a_flipped_bit_in_any_file_leads_to_the_step_before(saved, warnings):
  rng, keep = random.Random(0), saved.folder.with_name('keep')
  shutil.copytree(saved.folder, keep)
  files = [path.relative_to(keep) for path in (keep / '2').rglob('*') if path.is_file()]
  files = [name for name in files if (keep / name).stat().st_size]
  assert len(files) > 5
  for name in [*files, *[pathlib.Path('2.json')] * 10]:
    flip(saved.folder / name, rng)
    step, state = saved.restore(make_state())
    assert step == 1, f'{name} was damaged unnoticed'
    assert_same(state, make_state(1))
    warning = warnings.pop()
    assert f'checkpoint {saved.folder}/2 is damaged' in warning and not warnings
    shutil.copy(keep / name, saved.folder / name)
  assert saved.restore(make_state())[0] == 2 and not warnings


DAMAGES = {
  'truncated': lambda c: os.truncate(largest(c / '2'), 10),
  'a file is missing': lambda c: os.remove(largest(c / '2')),
  '2 is missing|2/.* is missing': lambda c: shutil.rmtree(c / '2'),
  '2.json is missing': lambda c: os.remove(c / '2.json'),
  'invalid seal': lambda c: (c / '2.json').write_text('{"step": 2}'),
  '.invalid seal': lambda c: (c / '2.json').write_text(''),
  '..invalid seal': lambda c: (c / '2.json').write_bytes(b'\xff\xfe\xfd'),
}


def largest(folder):
  return max((p for p in folder.rglob('*') if p.is_file()), key=lambda p: p.stat().st_size)


@pytest.mark.parametrize('reason', DAMAGES)
def test_damage_is_named_and_the_step_before_is_used(saved, warnings, reason):
  DAMAGES[reason](saved.folder)
  step, state = saved.restore(make_state())
  assert step == 1
  assert_same(state, make_state(1))
  (warning,) = warnings
  assert f'{saved.folder}/2 is damaged' in warning and '\n' not in warning
  pattern = {'truncated': 'has changed', 'a file is missing': 'is missing'}.get(reason, reason)
  assert re.search(pattern, warning)


def test_all_damaged_is_none(saved, warnings):
  for step in 1, 2:
    shutil.rmtree(saved.folder / str(step))
  assert saved.restore(make_state()) is None
  assert len(warnings) == 2


def test_a_damaged_step_does_not_count_among_the_kept(saved):
  flip(largest(saved.folder / '2'), random.Random(1))
  assert saved.restore(make_state())[0] == 1
  saved.save(3, make_state(3))
  assert steps(saved.folder) == ['1', '1.json', '3', '3.json']


def test_a_damaged_step_can_be_saved_again(saved):
  os.remove(saved.folder / '2.json')
  assert saved.restore(make_state())[0] == 1
  saved.save(2, make_state(20))
  step, state = saved.restore(make_state())
  assert step == 2 and steps(saved.folder) == ['1', '1.json', '2.1', '2.json']
  assert_same(state, make_state(20))


def test_by_default_a_warning_goes_to_the_error_stream(saved, capfd):
  os.remove(saved.folder / '2.json')
  with checkpoint.Checkpointer(saved.folder) as checkpointer:
    assert checkpointer.restore(make_state())[0] == 1
  out, err = capfd.readouterr()
  assert out == '' and err.count('\n') == 1 and '2.json is missing' in err


# ---- kills


@pytest.mark.parametrize('moment', ['_sweep', 'write_atomic', 'digests'])
def test_a_save_that_is_cut_off_leaves_a_readable_step(saved, warnings, monkeypatch, moment):
  def die(*_):
    raise KeyboardInterrupt

  owner = {'_sweep': checkpoint.Checkpointer, 'write_atomic': checkpoint.safe}
  with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
    patch.setattr(owner.get(moment, checkpoint), moment, die)
    saved.save(3, make_state(3))
  step, state = saved.restore(make_state())
  assert step == (3 if moment == '_sweep' else 2)
  assert_same(state, make_state(step))
  saved.save(4, make_state(4))
  assert steps(saved.folder) == [str(step), f'{step}.json', '4', '4.json']


SAVE_FOR_EVER = """
import sys, itertools
import jax.numpy as jnp
from ensdistill.storage import checkpoint
make = lambda step: {'a': [jnp.full(50, step)] * 20, 'b': jnp.full(600_000, step), 'step': step}
with checkpoint.Checkpointer(sys.argv[1]) as checkpointer:
  start, state = checkpointer.restore(make(0)) or (0, None)
  for step in itertools.count(start + 1):
    checkpointer.save(step, make(step))
    print(step, flush=True)
"""


def test_killed_at_any_moment_a_whole_step_is_there(tmp_path, warnings):
  rng, done = random.Random(time.time_ns()), 0
  like = {'a': [jnp.zeros(50, jnp.int32)] * 20, 'b': jnp.zeros(600_000, jnp.int32), 'step': 0}
  for _ in range(2):
    command = [sys.executable, '-c', SAVE_FOR_EVER, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
      first = int(process.stdout.readline())
      assert first >= done + 1  # it continued where the killed process stopped
      time.sleep(rng.uniform(0, 0.5))
      process.kill()
      done = max([first, *map(int, process.stdout.read().split())])
    with checkpoint.Checkpointer(tmp_path, log=warnings.append) as checkpointer:
      step, state = checkpointer.restore(like)
    assert step in (done, done + 1)
    assert all((leaf == step).all() for leaf in map(np.asarray, jax.tree.leaves(state)))
    assert len(warnings) <= 1  # if it was killed between Orbax's write and the manifest
    warnings.clear()
