"""What several processes read of a set: each row once, by one of them, for any number of them."""

import collections

import jax
import numpy as np
import pictures
import pytest

from ensdistill import data
from ensdistill.data import stream
from ensdistill.data.images import stored

BATCH, STEPS = 8, 4  # an epoch of 32 images


@pytest.fixture(scope='module')
def images(tmp_path_factory):
  root = pictures.folder(tmp_path_factory.mktemp('set'), (22, 22))
  return data.load(f'folder:{root}', size=8, stream='on', valid=4)


@pytest.fixture
def decoded(monkeypatch):
  """Count how often each file is decoded."""
  counts, decode = collections.Counter(), stored.Stored.decode

  def counting(self, row, window=None):
    counts[self.records.where(row)] += 1
    return decode(self, row, window)

  monkeypatch.setattr(stored.Stored, 'decode', counting)
  return counts


def shares(size, processes):
  """Split the rows of a block that `processes` divide, as devices do."""
  whole = -(-size // processes) * processes
  return np.split(np.arange(whole), processes)


@pytest.mark.parametrize('processes', [1, 2, 3, 4])
@pytest.mark.parametrize('area', [0.0, 0.5])
def test_an_epoch_is_read_once_by_all_processes_together(images, decoded, processes, area):
  arrays = {'x': images.train.x, 'y': images.train.y}
  orders = jax.random.split(jax.random.key(0), 1)
  batches = data.Stream(arrays, orders, steps=STEPS, batch=BATCH, area=area, workers=0)
  whole = list(batches.starting(0))
  decoded.clear()
  parts = [list(batches.starting(0, own[own < BATCH])) for own in shares(BATCH, processes)]
  assert len(decoded) == len(images.train.x) == 32 and set(decoded.values()) == {1}
  for step in range(STEPS):
    for name in ('x', 'y'):
      joined = np.concatenate([part[step].arrays[name] for part in parts], axis=1)
      np.testing.assert_array_equal(joined, whole[step].arrays[name])


@pytest.mark.parametrize('processes', [1, 2, 3, 4])
def test_blocks_of_a_set_are_read_once_by_all_processes_together(images, decoded, processes):
  x, y = images.test
  whole = np.asarray(x)
  decoded.clear()
  each = [list(stream.blocks(x, 3, own)) for own in shares(3, processes)]
  assert set(decoded.values()) == {1} and len(decoded) == len(x)
  for number, block in enumerate(range(0, len(x), 3)):
    joined = np.concatenate([blocks[number] for blocks in each])[: len(x) - block][:3]
    np.testing.assert_array_equal(joined, whole[block : block + 3])
  decoded.clear()
  size = -(-3 // processes) * processes
  parts = [list(data.Blocks(x, y, 3, size, own)) for own in shares(3, processes)]
  assert set(decoded.values()) == {1} and len(decoded) == len(x)
  sizes = [size for _, size in parts[0]]
  assert sizes == [3, 3, 2]
  (_, labels), _ = parts[-1][-1]
  assert labels[:2].tolist() == y[6:].tolist() and (labels[2:] == -1).all()
