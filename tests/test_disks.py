"""Writes that fail, and folders that vanish: one line, and the run continues afterwards."""

import errno
import os
import resource
import shutil
import sys
import types

import numpy as np
import pytest
import tiny

from ensdistill.commands import usage
from ensdistill.logs import writers
from ensdistill.storage import checkpoint, safe

UNRAISABLE = ('exc_type', 'exc_value', 'exc_traceback', 'err_msg', 'object')
CAUSES = (errno.ENOSPC, errno.EIO, errno.EROFS)


def refuses(code):
  def fails(*arguments, **settings):
    raise OSError(code, os.strerror(code))

  return fails


@pytest.mark.parametrize('code', CAUSES)
@pytest.mark.parametrize('call', ['fsync', 'replace'])
def test_an_atomic_write_names_file_and_cause(tmp_path, monkeypatch, code, call):
  path = tmp_path / 'results.json'
  safe.write_atomic(path, 'old')
  monkeypatch.setattr(os, call, refuses(code))
  with pytest.raises(OSError) as error:
    safe.write_atomic(path, 'new')
  assert usage.reason(error.value) == f'{path} cannot be written: {os.strerror(code)}'
  assert path.read_text() == 'old' and os.listdir(tmp_path) == ['results.json']


@pytest.fixture
def no_space():
  """A function that limits the size of files from now on, as a full disk does."""
  before, hook = resource.getrlimit(resource.RLIMIT_FSIZE), sys.unraisablehook

  def limit(size):
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))

  yield limit
  resource.setrlimit(resource.RLIMIT_FSIZE, before)
  sys.unraisablehook = hook  # a write that failed leaves one


@pytest.mark.parametrize('size', [100_000, 300])
def test_a_checkpoint_that_cannot_be_written_keeps_the_one_before(tmp_path, no_space, size, capfd):
  state = {'a': np.arange(1 << 18, dtype=np.float64), 'b': np.ones(3)}
  with checkpoint.Checkpointer(tmp_path / 'stage') as checkpointer:
    checkpointer.save(1, state)
    no_space(size)
    with pytest.raises(OSError) as error:
      checkpointer.save(2, scaled(state, 2))
    no_space(resource.RLIM_INFINITY)
    a_write_ends_after_its_loop_was_closed()
    line = usage.reason(error.value)
    assert line == f'{tmp_path}/stage/2 cannot be written: {os.strerror(errno.EFBIG)}'
    assert 'Traceback' not in capfd.readouterr().err
    step, found = checkpointer.restore(state)
    assert step == 1 and tiny.largest_difference(found, state) == 0
    checkpointer.save(2, scaled(state, 2))
    step, found = checkpointer.restore(state)
    assert step == 2 and tiny.largest_difference(found, scaled(state, 2)) == 0


def a_write_ends_after_its_loop_was_closed():
  try:
    raise RuntimeError('Event loop is closed')
  except RuntimeError as error:
    left = (type(error), error, error.__traceback__, None, None)
    sys.unraisablehook(types.SimpleNamespace(**dict(zip(UNRAISABLE, left))))


def scaled(state, factor):
  return {name: factor * value for name, value in state.items()}


def test_metrics_that_cannot_be_written_name_the_file(tmp_path, no_space):
  with writers.Writer(tmp_path, quiet=True) as writer:
    writer.scalars(1, {'loss': 1.0}, stage='student')
    no_space((tmp_path / 'metrics.jsonl').stat().st_size + 5)
    with pytest.raises(OSError) as error:
      writer.scalars(2, {'loss': 2.0}, stage='student')
    no_space(resource.RLIM_INFINITY)
  reason = usage.reason(error.value)
  assert reason == f'{tmp_path}/metrics.jsonl cannot be written: {os.strerror(errno.EFBIG)}'
  with writers.Writer(tmp_path, quiet=True):  # the next run drops the half of a line
    assert (tmp_path / 'metrics.jsonl').read_text().count('\n') == 1


def test_a_folder_that_is_removed_under_a_run_is_noticed(tmp_path):
  with writers.Writer(tmp_path / 'run', quiet=True) as writer:
    writer.scalars(1, {'loss': 1.0}, stage='student')
    shutil.rmtree(tmp_path / 'run')
    with pytest.raises(OSError, match='metrics.jsonl was removed while'):
      writer.scalars(2, {'loss': 1.0}, stage='student')
  with checkpoint.Checkpointer(tmp_path / 'stage') as checkpointer:
    checkpointer.save(1, {'a': np.ones(2)})
    shutil.rmtree(tmp_path / 'stage')
    with pytest.raises(OSError, match='stage was removed while'):
      checkpointer.save(2, {'a': np.ones(2)})


def test_what_killed_processes_left_is_swept(tmp_path):
  dead, alive = 2**22 + 1, os.getpid()  # above the largest number of a process
  for name in (
    f'.a.{dead}-7.part',
    f'figures/.b.png.{dead}-7.part',
    f'.c.{alive}-7.part',
    'd.part',
  ):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text('')
  for process in (dead, alive):
    folder = tmp_path / f'.e.savedmodel.{process}-7.part'
    folder.mkdir()
    (folder / f'.f.{dead}-7.part').write_text('')
  own = safe.part_of(tmp_path / 'g.csv')
  own.write_text('')
  safe.sweep_parts(tmp_path)
  assert own.exists() and not (tmp_path / f'.e.savedmodel.{dead}-7.part').exists()
  assert not list((tmp_path / f'.e.savedmodel.{alive}-7.part').iterdir())
  own.rename(own.with_name(own.name.replace(f'.{alive}-', f'.{dead}-')))
  safe.sweep_parts(tmp_path)
  left = sorted(path.name for path in tmp_path.rglob('*') if path.is_file())
  assert left == [f'.c.{alive}-7.part', 'd.part']
  (tmp_path / 'checkpoints').mkdir()
  checkpoint.remove_empty(tmp_path / 'checkpoints')
  checkpoint.remove_empty(tmp_path / 'figures' / 'missing')
  assert not (tmp_path / 'checkpoints').exists()


def test_the_holder_of_a_lock_has_a_name(tmp_path):
  path = tmp_path / 'lock'
  assert safe.holder(path) == 'another process' and not safe.is_locked(path)
  with safe.lock(path):
    assert safe.holder(path).startswith(f'process {os.getpid()} on ') and safe.is_locked(path)
  assert not safe.is_locked(path)
