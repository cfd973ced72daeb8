"""Images that change under a run: noticed at the start of an epoch, when read, and on resuming."""

import os
import pathlib
import pickle

import numpy as np
import pictures
import pytest

from ensdistill import data
from ensdistill.config import inputs
from ensdistill.data.images import watched


def loaded(root) -> data.Dataset:
  return data.load(f'folder:{root}', size=8, stream='on')


def first(dataset) -> pathlib.Path:
  return pathlib.Path(dataset.train.x.records.where(0))


def test_a_digest_is_noted_at_first_and_compared_afterwards(tmp_path):
  digests = watched.Digests(tmp_path / 'new' / 'a.digests', 3)
  digests.make()
  digests.check(1, b'one')
  digests.check(1, b'one')
  again = pickle.loads(pickle.dumps(digests))  # another process
  again.make()  # keeps what is there
  part = again.take(np.array([2, 1]))
  part.check(0, b'two')
  with pytest.raises(watched.Changed, match='the image has changed since this run first read it'):
    part.check(1, b'other')
  assert (tmp_path / 'new' / 'a.digests').stat().st_size == 24
  (tmp_path / 'new' / 'a.digests').unlink()
  with pytest.raises(data.DataError, match='a.digests: No such file'):
    watched.Digests(tmp_path / 'new' / 'a.digests', 3).check(0, b'one')


def test_a_run_that_resumes_notices_content_of_the_same_size(tmp_path):
  root = pictures.folder(tmp_path / 'data', (20, 20), suffix='.bmp')
  dataset = inputs.watched(loaded(root), tmp_path / 'run')
  before = dataset.train.x[:4]
  assert (dataset.valid.x.digests, dataset.test.x.digests) != (None, None)
  path = first(dataset)
  content = bytearray(path.read_bytes())
  content[-1] ^= 1
  path.write_bytes(content)
  resumed = inputs.watched(loaded(root), tmp_path / 'run')
  assert resumed.train.x.stamp() == dataset.train.x.stamp()  # names and sizes are the same
  with pytest.raises(watched.Changed, match=f'{path}: the image has changed .*remove the folder'):
    resumed.train.x[:4]
  fresh = inputs.watched(loaded(root), tmp_path / 'other')
  assert fresh.train.x[:4].shape == before.shape


@pytest.mark.parametrize('how, why', [('size', 'bytes, and had'), ('time', 'was written since')])
def test_sizes_and_time_stamps_are_compared(tmp_path, how, why):
  dataset = loaded(pictures.folder(tmp_path, (20, 20), suffix='.bmp'))
  dataset.train.x.check_unchanged(lambda: False)
  path = first(dataset)
  if how == 'size':
    path.write_bytes(path.read_bytes() + b'0')
  else:
    os.utime(path, ns=(1, 1))
  with pytest.raises(watched.Changed, match=f'changed under the run: {path}.*{why}.*Restore') as e:
    dataset.train.x.check_unchanged(lambda: False)
  assert '\n' not in str(e.value)
  path.unlink()
  with pytest.raises(watched.Changed, match='No such file'):
    dataset.train.x.check_unchanged(lambda: False)


def test_a_check_that_nobody_waits_for_ends(tmp_path, monkeypatch):
  dataset = loaded(pictures.folder(tmp_path, (20, 20), suffix='.bmp'))
  os.utime(dataset.train.x.records.where(5), ns=(1, 1))
  looked = []
  difference = watched.difference

  def noted(path, *state):
    looked.append(path)
    return difference(path, *state)

  monkeypatch.setattr(watched, 'difference', noted)
  dataset.train.x.check_unchanged(lambda: len(looked) == 3)
  assert len(looked) == 3
  with pytest.raises(watched.Changed):
    dataset.train.x.check_unchanged(lambda: False)
