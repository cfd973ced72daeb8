"""Batches that come to the device step by step, from arrays on the host or images in files.

Grain reads ahead of the step that needs a batch; worker processes decode images. Every batch is a
function of (order, step) alone, with the examples that `sampler.indices` draws on the device, for
any number of workers. A run that resumes asks for its step.
"""

import collections
import contextlib
import dataclasses
import os
import shutil
import threading
from collections.abc import Callable, Generator, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np
from absl import flags

from ensdistill import processes
from ensdistill.data import sampler
from ensdistill.data.dataset import no_labels
from ensdistill.data.errors import DataError
from ensdistill.data.images import stored, windows

_AHEAD = 2  # batches that are ready beside the one in use
_SHARED_MEMORY = '/dev/shm'


class Batch(NamedTuple):
  """The batches of a step, one for each order; networks find their own by their key."""

  arrays: dict[str, Any]  # leaves [O, B, ...]
  orders: Any  # key data, uint32 [O, words]


@dataclasses.dataclass(frozen=True)
class _Read:
  """The function from a step to inputs [O, B, ...] and rows [O, B] in each order; for workers."""

  x: Any
  round_keys: np.ndarray  # of the sampler
  orders: np.ndarray  # key data, uint32 [O, words]
  batch: int
  area: float
  threads: bool
  own: np.ndarray | None = None  # the places in a batch that are read; None: all

  def __call__(self, step: int) -> dict[str, np.ndarray]:
    settings = {'size': len(self.x), 'batch': self.batch}
    rows = [sampler.indices_on_host(keys, step, **settings) for keys in self.round_keys]
    if self.own is not None:
      rows = [rows[self.own] for rows in rows]
    x = [self._inputs(rows, [*order, step]) for rows, order in zip(rows, self.orders)]
    return {'x': np.stack(x), 'rows': np.stack(rows)}

  def _inputs(self, rows, seed) -> np.ndarray:
    if not stored.in_files(self.x):
      return self.x[rows]
    through = None
    if self.area:
      through = windows.random_windows(self.x.form, self.area, self.batch, seed)
      through = through if self.own is None else [through[place] for place in self.own]
    return self.x.read(rows, through, threads=self.threads)


class Stream:
  """The batches of a training run, for networks of the same order or each of its own."""

  def __init__(
    self,
    arrays: dict[str, Any],
    orders: jax.Array,
    *,
    steps: int,
    batch: int,
    area: float = 0.0,
    workers: int | None = None,
  ):
    """Describe the batches; nothing is read yet.

    Args:
      arrays: by name; 'x' is an array or stored.Stored, the others are arrays.
      orders: the networks' keys [S]; a batch that all of them share is read once.
      steps: steps of the run.
      batch: examples of a step.
      area: the least share of an image that a random crop shows; 0: no crops.
      workers: processes that decode images; 0: threads of this process; None: one per core.
    """
    words = np.asarray(jax.random.key_data(orders))
    if (words == words[0]).all():
      orders, words = orders[:1], words[:1]
    self._settings: dict[str, Any] = {
      'arrays': arrays,
      'steps': steps,
      'batch': batch,
      'area': area,
      'workers': workers,
    }
    decodes = stored.in_files(arrays['x'])
    self._workers = (processes.cores() if workers is None else workers) if decodes else 0
    self._others = {name: values for name, values in arrays.items() if name != 'x'}
    self._steps = steps
    epochs = -(-steps // sampler.steps_per_epoch(len(arrays['x']), batch))
    keys = sampler.round_keys(orders, epochs)
    self._read = _Read(arrays['x'], keys, words, batch, area, threads=not self._workers)

  @property
  def size(self) -> int:
    """The number of training examples."""
    return len(self._read.x)

  def ordered(self, orders: jax.Array) -> 'Stream':
    """Return the same batches for networks of other orders."""
    words = np.asarray(jax.random.key_data(orders))
    if len(self._read.orders) in (1, len(words)) and (words == self._read.orders).all():
      return self
    return Stream(orders=orders, **self._settings)

  @property
  def shapes(self) -> Batch:
    """The shapes and types of every batch."""
    x, orders = self._read.x, self._read.orders

    def shape(array):
      form = (len(orders), self._read.batch, *array.shape[1:])
      return jax.ShapeDtypeStruct(form, array.dtype)

    arrays = {name: shape(values) for name, values in {'x': x, **self._others}.items()}
    return Batch(arrays, jax.ShapeDtypeStruct(orders.shape, orders.dtype))

  def __getitem__(self, step: int) -> Batch:
    """Return the batch of a step."""
    return self._whole(self._read(step))

  def starting(self, at: int, own: np.ndarray | None = None) -> Generator[Batch]:
    """Yield the batches from step `at` to the last, read ahead.

    own: the places in a batch that are read, where other processes read the others.
    """
    import grain

    read_step = self._read if own is None else dataclasses.replace(self._read, own=own)
    read = grain.MapDataset.range(at, self._steps).map(read_step)
    if self._workers:
      read = read.to_iter_dataset(grain.ReadOptions(num_threads=0, prefetch_buffer_size=0))
      read = grain.experimental.WithOptionsIterDataset(read, self._options())
      workers = grain.MultiprocessingOptions(num_workers=self._workers, per_worker_buffer_size=1)
      if not flags.FLAGS.is_parsed():  # no command of ours parsed them, and Grain reads its own
        flags.FLAGS.mark_as_parsed()
      read = read.mp_prefetch(workers, worker_init_fn=_end_with_parent)
    else:
      read = read.to_iter_dataset(_ahead_by_thread())
    with contextlib.closing(iter(read)) as batches:
      yield from self._watched(map(self._whole, _read_by_workers(batches)), at)

  def _watched(self, batches: Iterator[Batch], at: int) -> Generator[Batch]:
    """Yield the batches; sizes and time stamps of the files are compared once an epoch."""
    x, check = self._read.x, None
    if not stored.in_files(x):
      yield from batches
      return
    epoch = sampler.steps_per_epoch(len(x), self._read.batch)
    ended = threading.Event()  # a run that stops does not wait for a slow disk
    try:
      for step, batch in enumerate(batches, at):
        if check and (check.done() or not step % epoch):
          check.result()
          check = None
        if step == at or not step % epoch:
          check = stored.thread_pool().submit(x.check_unchanged, ended.is_set)
        yield batch
      if check:
        check.result()
    finally:
      ended.set()

  def _whole(self, read: dict[str, np.ndarray]) -> Batch:
    x = np.array(read['x'])  # a copy: shared memory is reused while a device may still read it
    others = {name: values[read['rows']] for name, values in self._others.items()}
    return Batch({'x': x, **others}, self._read.orders)

  def _options(self):
    """Return Grain's options: batches pass through shared memory if there is enough."""
    import grain

    needed = 3 * self._workers * self._read.batch * len(self._read.orders)
    needed *= int(np.prod(self._read.x.form))
    little = os.path.isdir(_SHARED_MEMORY) and shutil.disk_usage(_SHARED_MEMORY).free < needed
    return grain.experimental.DatasetOptions(min_shm_size=2**62 if little else 0)


@dataclasses.dataclass(frozen=True)
class Blocks:
  """Labelled inputs in files, block by block: ((x, y), number of examples).

  The last block is padded with unlabelled examples. With `own`, rows of a block of `size` that has
  `batch` examples, only these inputs are read.
  """

  x: stored.Stored
  y: np.ndarray
  batch: int
  size: int = 0
  own: np.ndarray | None = None

  def __iter__(self) -> Generator:
    for number, x in enumerate(blocks(self.x, self.batch, self.own)):
      y = self.y[number * self.batch :][: self.batch]
      labels = np.concatenate([y, no_labels(y, (self.size or self.batch) - len(y))])
      missing = 0 if self.own is not None else self.batch - len(x)
      padding = [(0, missing)] + [(0, 0)] * (x.ndim - 1)
      yield (np.pad(x, padding, 'edge'), labels), len(y)


def blocks(x, batch: int, own: np.ndarray | None = None) -> Iterator[np.ndarray]:
  """Yield every example once, in order, block by block; images in files are decoded ahead.

  With `own`, yield these rows of each block; those that lie beyond its examples are zeros.
  """
  starts = range(0, len(x), batch)

  def block(number: int) -> np.ndarray:
    start, end = starts[number], min(starts[number] + batch, len(x))
    if own is None:
      return x[start:end]
    there = start + own[own < end - start]
    part = x[there] if len(there) else np.zeros((0, *x.shape[1:]), x.dtype)
    return np.concatenate([part, np.zeros((len(own) - len(part), *x.shape[1:]), x.dtype)])

  if not stored.in_files(x):
    yield from map(block, range(len(starts)))
    return
  import grain

  read = grain.MapDataset.range(len(starts)).map(block)
  with contextlib.closing(iter(read.to_iter_dataset(_ahead_by_thread()))) as found:
    yield from found


def ahead(batches: Generator, place: Callable) -> Iterator:
  """Yield place(batch) of every batch; placing begins while earlier batches are in use."""
  waiting: collections.deque = collections.deque()
  with contextlib.closing(batches):
    for batch in batches:
      waiting.append(place(batch))
      if len(waiting) > _AHEAD:
        yield waiting.popleft()
  yield from waiting


def _ahead_by_thread():
  import grain

  return grain.ReadOptions(num_threads=1, prefetch_buffer_size=_AHEAD)


def _read_by_workers(batches: Iterator) -> Iterator:
  """Yield the batches; a worker that was killed is an error of the data."""
  try:
    yield from batches
  except RuntimeError as error:
    if not str(error).startswith('Worker process'):
      raise
    raise DataError(
      f'a process that decodes images was killed ({error}): if the memory of the host was used up, '
      'lower data.workers; data.workers=0 decodes in threads'
    ) from error


def _end_with_parent(number: int, count: int) -> None:
  """Ignore signals in a worker, because the run ends it; exit if the run was killed."""
  del number, count
  import multiprocessing
  import signal

  with contextlib.suppress(ValueError):  # outside the main thread
    for one in (signal.SIGINT, signal.SIGTERM):  # a signal to the group reaches the workers, too
      signal.signal(one, signal.SIG_IGN)

  def wait():
    parent = multiprocessing.parent_process()
    assert parent is not None, 'runs in a worker process'
    parent.join()
    os._exit(1)

  threading.Thread(target=wait, daemon=True).start()
