"""Batches that stream: those of the device, each example once, whoever decodes them."""

import dataclasses
import functools
import multiprocessing
import os
import pathlib
import signal

import jax
import jax.numpy as jnp
import numpy as np
import pictures
import PIL.Image
import pytest
import tiny

from ensdistill import data, members
from ensdistill.config import build, inputs
from ensdistill.data.images import stored
from ensdistill.evaluation import inference
from ensdistill.training import feed, stage
from ensdistill.training import step as train
from ensdistill.training.step import TrainState

BATCH = 8


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  """Forty images a class, in files."""
  return pictures.folder(tmp_path_factory.mktemp('set'), (40, 40), (10, 8))


@pytest.fixture(scope='module')
def slopes(tmp_path_factory):
  """Twenty images a class that grow lighter downwards: every window of one is another image."""
  root = pictures.folder(tmp_path_factory.mktemp('slopes'), (20, 20))
  slope = np.arange(20, dtype=np.uint8)[:, None, None] * np.ones((1, 30, 3), np.uint8)
  for path in sorted(root.glob('*/*.png')):
    PIL.Image.fromarray(slope + np.uint8(path.stem)).save(path)
  return root


def load(folder, **settings):
  settings = {'size': 8, 'stream': 'on', **settings}
  return data.load(f'folder:{folder}', **settings)


def orders(count=1, seed=0):
  return jax.random.split(jax.random.key(seed), count)


def stream(dataset, order=None, *, steps=20, **settings):
  arrays = {'x': dataset.train.x, 'y': dataset.train.y}
  settings = {'workers': 0, **settings}
  return data.Stream(
    arrays, orders() if order is None else order, steps=steps, batch=BATCH, **settings
  )


def test_on_and_off_are_the_same_data(folder):
  streamed, resident = load(folder), load(folder, stream='off')
  assert streamed.streams and not resident.streams
  assert isinstance(streamed.train.x, stored.Stored) and isinstance(resident.train.x, np.ndarray)
  assert streamed.fingerprint == resident.fingerprint
  assert (streamed.mean, streamed.std) == (resident.mean, resident.std)
  for a, b in zip((streamed.train, streamed.valid, streamed.test),
                  (resident.train, resident.valid, resident.test)):  # fmt: skip
    np.testing.assert_array_equal(np.asarray(a.x), b.x)
    np.testing.assert_array_equal(a.y, b.y)
  size = resident.train.x.nbytes
  assert load(folder, stream='auto', stream_bytes=size - 1).streams
  assert not load(folder, stream='auto', stream_bytes=size).streams
  assert data.load('digits', stream='on').fingerprint == data.load('digits').fingerprint


@pytest.mark.parametrize('shared', [False, True])
def test_a_stream_has_the_batches_of_the_device(folder, shared):
  """With the same augmentation, for networks of their own orders or of one."""
  keys = train.network_keys(jax.random.key(3), range(3), shared)[1]
  augment = data.augment.make(crop=1, flip=True)
  streamed = stream(load(folder), keys)
  resident = build.arrays(load(folder, stream='off').train, tiny.dataset())
  assert len(streamed[0].orders) == (1 if shared else 3)

  def drawn(feed, seen, step):
    def of_order(order):
      return feed.draw(seen, TrainState(step, None, None, None, None, order))

    return jax.vmap(of_order)(keys)

  by_step = feed.Streamed(streamed, BATCH, augment)
  whole = feed.OnDevice(resident, BATCH, augment)
  for step, batch in zip((5, 6, 7, 8), streamed.starting(5)):
    found = jax.jit(functools.partial(drawn, by_step))(batch, step)
    expected = jax.jit(functools.partial(drawn, whole))(resident, step)
    for name in ('x', 'y'):
      np.testing.assert_array_equal(found[name], expected[name])


def test_arrays_on_the_host_stream_too():
  digits = data.load('digits', limit=50, stream='on')
  outputs = np.random.default_rng(0).random((50, 2, 10))
  arrays = {**build.arrays(digits.train, digits), 'teacher_outputs': outputs}
  batch = data.Stream(arrays, orders(), steps=4, batch=BATCH)[3]
  rows = np.asarray(data.sampler.indices(orders()[0], 3, size=50, batch=BATCH))
  for name, values in arrays.items():
    np.testing.assert_array_equal(batch.arrays[name], values[rows][None])


def test_any_number_of_workers_gives_the_same_batches(slopes):
  dataset = load(slopes)

  def stream_by(workers):
    return stream(dataset, orders(2), steps=5, area=0.2, workers=workers)

  alone, by_two, by_three = (list(stream_by(workers).starting(2)) for workers in (0, 2, 3))
  assert len(alone) == 3
  for batches in (by_two, by_three):
    assert tiny.largest_difference(alone, batches) == 0
  # Cut at random, anew at every step; the same again for the same order.
  whole = np.asarray(dataset.train.x)

  def rows_of(order, step):
    return data.sampler.indices(orders(2)[order], step, size=29, batch=BATCH)

  heights = []
  for step, batch in zip((2, 3, 4), alone):
    for order in (0, 1):
      cut, uncut = batch.arrays['x'][order], whole[rows_of(order, step)]
      assert (cut.min((1, 2, 3)) + 1 >= uncut.min((1, 2, 3))).all()
      heights += np.ptp(cut[:, :, 0, 0], 1).tolist()
  assert len(set(heights)) > 5


def test_workers_leave_a_signal_to_the_run(slopes):
  """A signal to the whole group, as `timeout` and Slurm send it."""
  batches = stream(load(slopes), orders(1), steps=12, workers=1).starting(0)
  next(batches)
  (worker,) = multiprocessing.active_children()
  for number in (signal.SIGTERM, signal.SIGINT):
    os.kill(worker.pid, number)
  assert len(list(batches)) == 11


def test_a_worker_that_was_killed_is_an_error_with_a_remedy(slopes):
  batches = stream(load(slopes), orders(1), steps=500, workers=1).starting(0)
  next(batches)
  (worker,) = multiprocessing.active_children()
  worker.kill()
  with pytest.raises(data.DataError, match='was killed .*lower data.workers'):
    list(batches)


def test_it_goes_on_at_any_step_with_the_same_batches(slopes):
  def batches_from(at):
    return list(stream(load(slopes), orders(2), steps=9, area=0.2).starting(at))

  whole = batches_from(0)  # three epochs
  for at in np.random.default_rng(0).choice(np.arange(1, 9), 4, replace=False).tolist():
    assert tiny.largest_difference(whole[at:], batches_from(at)) == 0


@pytest.mark.parametrize('size', [56, 58])
def test_an_epoch_has_every_example_once(folder, size):
  """In seven batches of eight; what fills no batch waits for another epoch."""
  x = load(folder).train.x.take(np.arange(size))
  dataset = dataclasses.replace(load(folder), train=data.Split(x, np.arange(size)))
  epochs = []
  for start in (0, 7):
    seen = [b.arrays['y'] for _, b in zip(range(7), stream(dataset, steps=14).starting(start))]
    epochs.append(np.concatenate(seen, 1)[0].tolist())
    assert len(set(epochs[-1])) == len(epochs[-1]) == 56
  assert epochs[0] != epochs[1] and set(sum(epochs, [])) == set(range(size))


@pytest.mark.parametrize('workers', [0, 1])
def test_a_corrupt_file_in_the_middle_of_a_stream_is_named(folder, tmp_path, workers):
  root = pictures.folder(tmp_path, (40, 40), suffix='.jpg')
  dataset = load(root)
  streamed = stream(dataset, workers=workers)
  rows = np.concatenate([data.sampler.indices(orders()[0], s, size=58, batch=8) for s in range(2)])
  assert len(dataset.train.x) == 58
  bad = pathlib.Path(dataset.train.x.records.where(rows[-1]))
  pictures.damage(bad)
  received = 0
  with pytest.raises(data.DataError, match=f'{bad} cannot be read as an image'):
    for _ in streamed.starting(0):
      received += 1
  assert received == 1


def test_a_corrupt_file_that_is_skipped_is_in_no_batch(tmp_path):
  root = pictures.folder(tmp_path, (40, 40), suffix='.jpg')

  def batches(dataset):
    return stream(dataset, steps=7).starting(0)

  def files(dataset):
    return {dataset.train.x.records.where(i) for i in range(len(dataset.train.x))}

  bad = sorted(files(load(root)))[20]
  pictures.damage(pathlib.Path(bad))
  dataset = load(root, unreadable='skip')
  assert len(dataset.skipped) == 1 and bad in dataset.skipped[0] and bad not in files(dataset)
  assert len(list(batches(dataset))) == 7
  # Damaged after all were tried: it stops, and says how to try again.
  late = sorted(files(dataset))[20]
  pathlib.Path(late).write_bytes(b'0' * pathlib.Path(late).stat().st_size)
  again = (
    f'{late} cannot be read .*was readable before: remove {root}/.unreadable-train.json to try'
  )
  with pytest.raises(data.DataError, match=again) as caught:
    list(batches(load(root, unreadable='skip')))
  assert '\n' not in str(caught.value)


@pytest.mark.parametrize('part', ['train', 'val', 'test'])
def test_the_largest_part_decides_whether_it_streams(tmp_path, part):
  for name in ('train', 'val', 'test'):
    pictures.folder(tmp_path / name, (8, 8) if name == part else (2, 2))
  largest = 16 * 8 * 8 * 3
  assert load(tmp_path, stream='auto', stream_bytes=largest - 1).streams
  assert not load(tmp_path, stream='auto', stream_bytes=largest).streams


@pytest.mark.parametrize('part', ['valid', 'test'])
def test_images_that_measure_are_tried_before_anything_trains(tmp_path, monkeypatch, part):
  root = pictures.folder(tmp_path, (20, 20), suffix='.jpg')
  tried = []
  decode = stored.Stored.decode
  monkeypatch.setattr(
    stored.Stored, 'decode', lambda x, row, *w: tried.append(x.records.where(row)) or decode(x, row)
  )
  records = getattr(load(root), part).x.records
  measured = {records.where(row) for row in range(len(records))}
  assert measured <= set(tried)
  tried.clear()
  assert load(root).streams and not measured & set(tried)  # once for all
  bad = pathlib.Path(sorted(measured)[-1])
  pictures.damage(bad)
  with pytest.raises(data.DataError, match=f'{bad} cannot be read .*skip.*--unreadable=skip'):
    load(root)
  with pytest.raises(data.DataError, match='the image has 12 x 12 pixels, others have 9 x 9'):
    pictures.write(sorted(root.glob('*/*.jpg'))[0], (0, 0, 0), (9, 9))
    pictures.write(bad, (0, 0, 0))
    load(root, size=0)
  assert load(root, unreadable='skip').streams


def test_random_crops_are_for_images_in_files(folder):
  augment = inputs.augmentation(tiny.config(augment__crop_area=0.1))
  inputs.check_augmentation(augment, load(folder))
  with pytest.raises(ValueError, match='crop_area=0.1 is for images in files, and tiny has none'):
    inputs.check_augmentation(augment, tiny.dataset())
  with pytest.raises(ValueError, match=r'augment.crop_area=2.0 must lie in \[0, 1\]'):
    inputs.augmentation(tiny.config(augment__crop_area=2.0))


def scaled_sums(scale):
  """Return a frozen network whose outputs are sums over images."""
  return members.Members(1, lambda x: scale * x.sum((1, 2, 3)))


def test_blocks_cover_every_example_once(folder):
  x = load(folder).train.x
  whole = np.asarray(x)
  for size in (1, 7, 8, 9, 24):
    few = x.take(np.arange(size))
    assert [len(block) for block in data.blocks(few, 8)] == [
      min(8, size - i) for i in range(0, size, 8)
    ]
    np.testing.assert_array_equal(np.concatenate(list(data.blocks(few, 8))), whole[:size])
    predictor = inference.Predictor(None, scaled_sums, batch=8)
    scale = jnp.float32(2)
    np.testing.assert_array_equal(
      predictor.outputs(scale, few), predictor.outputs(scale, whole[:size])
    )
  padded = list(data.Blocks(x.take(np.arange(10)), np.arange(10), 4))
  assert [size for _, size in padded] == [4, 4, 2]
  assert [y.tolist() for (_, y), _ in padded] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, -1, -1]]
  assert all(len(block) == 4 for (block, _), _ in padded)


CONFIG = tiny.config(data__workers=0, evaluate__batch_size=4)


def fit(dataset, folder):
  """Trains two networks, each of its own order, with validation; saves after every call."""
  plan = tiny.plan(CONFIG, dataset)
  keys, orders = train.network_keys(jax.random.key(0), range(2))
  states = train.start(keys, orders, plan.teacher, jnp.zeros((1, 8, 8, 3)))
  arrays = build.arrays(dataset.train, dataset)
  return stage.train(
    name='stage',
    method=plan.teacher,
    states=states,
    feed=plan.feed(CONFIG.teacher, arrays, orders, plan.teacher.steps),
    validation=plan.validation(),
    loop=tiny.running(2, checkpoint_seconds=0.0),
    folder=folder,
  )


def test_training_is_the_same_resident_streamed_and_resumed(folder, tmp_path, monkeypatch):
  resident, kept = fit(load(folder, stream='off'), tmp_path / 'resident')
  streamed, kept_streamed = fit(load(folder), tmp_path / 'streamed')
  assert tiny.largest_difference(resident, streamed) < 1e-6
  np.testing.assert_array_equal(kept['step'], kept_streamed['step'])
  np.testing.assert_allclose(kept['nll'], kept_streamed['nll'], rtol=1e-5)

  class Killed(Exception):
    """Raised by a test to stop a run."""

  def dies(self, at, own=None):
    yield from (self[step] for step in range(at, 5))
    raise Killed

  monkeypatch.setattr(data.Stream, 'starting', dies)
  with pytest.raises(Killed):
    fit(load(folder), tmp_path / 'cut')
  monkeypatch.undo()
  assert list((tmp_path / 'cut').glob('*.json'))
  resumed, kept_resumed = fit(load(folder), tmp_path / 'cut')
  assert tiny.largest_difference((streamed, kept_streamed), (resumed, kept_resumed)) == 0


def test_a_change_of_the_files_ends_the_stream_at_the_next_epoch(tmp_path):
  dataset = load(pictures.folder(tmp_path, (40, 40), suffix='.bmp'))
  path = pathlib.Path(dataset.train.x.records.where(0))
  batches = stream(dataset, steps=1000).starting(0)
  next(batches)
  os.utime(path, ns=(1, 1))
  with pytest.raises(data.DataError, match=f'changed under the run: {path} was written since'):
    for _ in batches:
      pass
