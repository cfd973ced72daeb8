"""The students that are served, each with its queue; they are warmed up before they are ready."""

import functools
import threading
from collections.abc import Callable, Sequence

from ensdistill.serving import batching, metrics
from ensdistill.serving.hosted import Hosted
from ensdistill.serving.limits import Limits


class Service:
  """Students by name, their queues, and what is measured."""

  def __init__(self, students: Sequence[Hosted], limits: Limits):
    self.limits, self.metrics = limits, metrics.Metrics()
    self.students = {one.name: one for one in students}
    self.batchers = {one.name: self._batcher(one) for one in students}
    self.ready, self.failed = False, ''
    self._stopped = threading.Event()
    self._starter: threading.Thread | None = None
    gauge = self.metrics.gauge
    gauge('ensdistill_queue_rows', 'Rows that wait, by student.', self._queues)
    gauge('ensdistill_ready', '1 once all students are ready.', lambda: [((), int(self.ready))])
    gauge('process_resident_memory_bytes', 'Memory that the process holds.', _memory)

  def _batcher(self, one: Hosted) -> batching.Batcher:
    own = metrics.labels(model=one.name)

    def observe(rows: int, seconds: float) -> None:
      self.metrics.rows.add(own, rows)
      self.metrics.batch_rows.add(own, rows)
      self.metrics.batch_seconds.add(own, seconds)

    return batching.Batcher(
      functools.partial(_predict, one, self.limits.max_batch),
      max_batch=self.limits.max_batch,
      max_wait=self.limits.max_wait_ms / 1000,
      capacity=self.limits.queue,
      observe=observe,
    )

  def _queues(self):
    return [(metrics.labels(model=name), own.rows) for name, own in self.batchers.items()]

  def start(self, on_ready: Callable[[], None]) -> None:
    """Warm up in a thread.

    The thread calls `on_ready` at the end, also after a failure, but not if `close` came first.
    """
    self._starter = threading.Thread(
      target=self._start, args=(on_ready,), name='warm-up', daemon=True
    )
    self._starter.start()

  def _start(self, on_ready: Callable[[], None]) -> None:
    try:
      for one in self.students.values():
        for size in batching.sizes(self.limits.max_batch):
          if self._stopped.is_set():
            return
          one.warm_up(size, self.limits.max_batch)
      for own in self.batchers.values():
        own.start()
      self.ready = True
    except Exception as error:
      self.failed = f'{type(error).__name__}: {error}'
    on_ready()

  def close(self) -> None:
    """Predict what waits, and end all threads."""
    self._stopped.set()
    if self._starter is not None:
      self._starter.join()
    self.ready = False
    for own in self.batchers.values():
      own.close()


def _predict(one: Hosted, max_batch: int, x, members: bool):
  return one.predict(x, members, max_batch)


def _memory():
  found = metrics.resident()
  return [] if found is None else [((), found)]
