"""Dynamic batching: requests that arrive close together are predicted in one call.

A thread takes the oldest request, waits at most `max_wait` seconds for others to share its batch,
and pads the batch to one of a few sizes, so that no call compiles. The queue is bounded.
"""

import concurrent.futures
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from ensdistill.serving.refused import Refused

Predict = Callable[[np.ndarray, bool], Any]  # (rows [size, ...], members) -> any result


class Part(NamedTuple):
  """The rows of one request in the result of its batch."""

  result: Any
  start: int
  stop: int


class _Waiting(NamedTuple):
  """Rows in the queue."""

  x: np.ndarray
  members: bool
  arrived: float
  future: Any


def sizes(max_batch: int) -> tuple[int, ...]:
  """Return the sizes of batches: the powers of two below the largest one, and that one.

  So at most half of a batch is padding.
  """
  found, size = [], 1
  while size < max_batch:
    found.append(size)
    size *= 2
  return (*found, max_batch)


def _now(function: Callable, *arguments) -> None:
  function(*arguments)


def _set_all(pairs: Sequence[tuple[Any, Any]]) -> None:
  """Set the results of futures, except those that are cancelled."""
  for future, value in pairs:
    if future.done():
      continue
    if isinstance(value, BaseException):
      future.set_exception(value)
    else:
      future.set_result(value)


class Batcher:
  """A queue of rows, and the thread that predicts them in batches.

  Args:
    predict: called in the thread with rows [size, ...] and whether members are wanted; `size` is
      one of `sizes(max_batch)`.
    max_batch: rows of a batch.
    max_wait: seconds that a request waits for others.
    capacity: when this number of rows waits, requests are refused.
    observe: called with the rows of each batch and its seconds.
  """

  def __init__(
    self,
    predict: Predict,
    *,
    max_batch: int,
    max_wait: float,
    capacity: int,
    observe: Callable[[int, float], None] | None = None,
  ):
    self._predict, self._observe = predict, observe
    self.call: Callable = _now  # how results are set; an event loop's call_soon_threadsafe
    self.future: Callable = concurrent.futures.Future  # or an event loop's create_future
    self._sizes, self._max_wait, self._capacity = sizes(max_batch), max_wait, capacity
    self._queue: deque[_Waiting] = deque()
    self._rows = 0  # in the queue
    self._rate = 0.0  # rows a second, a moving average
    self._changed = threading.Condition()
    self._closed = False
    self.failing = False  # whether the last batch failed
    self._thread = threading.Thread(target=self._work, name='predictions', daemon=True)

  @property
  def rows(self) -> int:
    """The number of rows that wait."""
    return self._rows

  def start(self) -> None:
    """Start the thread."""
    self._thread.start()

  def submit(self, x: np.ndarray, *, members: bool = False) -> list[Any]:
    """Queue the rows of a request; return the futures of their parts.

    More rows than a batch holds become several parts. Raise Refused if the queue is full.
    """
    largest, now = self._sizes[-1], time.monotonic()
    parts = [x[at : at + largest] for at in range(0, len(x), largest)]
    waiting = [_Waiting(part, members, now, self.future()) for part in parts]
    with self._changed:
      self.check()
      idle = not self._queue
      self._queue.extend(waiting)
      self._rows += len(x)
      if idle or self._rows >= largest:
        self._changed.notify()
    return [one.future for one in waiting]

  def check(self) -> None:
    """Raise Refused if the queue is full. Otherwise it takes a request of any number of rows."""
    if self._closed:
      raise Refused(503, 'the server is stopping', retry=5, close=True)
    if self._rows >= self._capacity:
      raise Refused(
        503,
        f'{self._rows} rows wait already, the limit is {self._capacity}: try again later',
        retry=self._seconds_to_wait(),
      )

  def _seconds_to_wait(self) -> int:
    return max(1, math.ceil(self._rows / self._rate)) if self._rate else 1

  def close(self) -> None:
    """Refuse new rows, predict those that wait, and end the thread."""
    with self._changed:
      self._closed = True
      self._changed.notify()
    if self._thread.ident is not None:
      self._thread.join()

  def _work(self) -> None:
    while batch := self._next():
      batch = [one for one in batch if not one.future.cancelled()]
      if not batch:
        continue
      began = time.monotonic()
      try:
        result = self._predict(self._padded(batch), any(one.members for one in batch))
      except BaseException as error:  # the thread goes on with the next batch
        self.failing = True
        self.call(_set_all, [(one.future, error) for one in batch])
        continue
      self.failing = False
      start, parts = 0, []
      for one in batch:
        parts.append((one.future, Part(result, start, start + len(one.x))))
        start += len(one.x)
      self.call(_set_all, parts)
      self._note(start, time.monotonic() - began)

  def _next(self) -> list[_Waiting]:
    """Return the requests of the next batch; [] once the queue is closed and empty."""
    with self._changed:
      while not self._queue and not self._closed:
        self._changed.wait()
      if self._queue:
        until = self._queue[0].arrived + self._max_wait
        while self._rows < self._sizes[-1] and not self._closed:
          left = until - time.monotonic()
          if left <= 0:
            break
          self._changed.wait(left)
      batch, rows = [], 0
      while self._queue and rows + len(self._queue[0].x) <= self._sizes[-1]:
        batch.append(self._queue.popleft())
        rows += len(batch[-1].x)
      self._rows -= rows
      return batch

  def _padded(self, batch: Sequence[_Waiting]) -> np.ndarray:
    """Return the rows of a batch, padded with its last row to the next size."""
    rows = sum(len(one.x) for one in batch)
    size = next(size for size in self._sizes if size >= rows)
    last = batch[-1].x[-1:]
    return np.concatenate([*(one.x for one in batch), np.repeat(last, size - rows, 0)])

  def _note(self, rows: int, seconds: float) -> None:
    now = rows / max(seconds, 1e-6)
    self._rate = 0.9 * self._rate + 0.1 * now if self._rate else now
    if self._observe:
      self._observe(rows, seconds)
