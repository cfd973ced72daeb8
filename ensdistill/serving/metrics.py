"""Counters, gauges and histograms in the text format of Prometheus.

The labels are the names of students, statuses and fixed words, so their number is bounded.
https://prometheus.io/docs/instrumenting/exposition_formats/
"""

import bisect
import os
import threading
from collections.abc import Callable, Iterable

TYPE = 'text/plain; version=0.0.4; charset=utf-8'
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
Labels = tuple[tuple[str, str], ...]


def labels(**given: str) -> Labels:
  """Return the labels of a sample."""
  return tuple(given.items())


class Counter:
  """A number that only grows, one for each set of labels."""

  kind = 'counter'

  def __init__(self, name: str, about: str):
    self.name, self.about = name, about
    self._values: dict[Labels, float] = {}
    self._lock = threading.Lock()

  def add(self, own: Labels = (), amount: float = 1) -> None:
    """Add an amount, which is not negative."""
    with self._lock:
      self._values[own] = self._values.get(own, 0) + amount

  def samples(self) -> Iterable[tuple[str, Labels, float]]:
    """Return (suffix of the name, labels, value) of each sample."""
    return [('', own, value) for own, value in self._values.copy().items()]


class Gauge:
  """A number that is read when the metrics are."""

  kind = 'gauge'

  def __init__(self, name: str, about: str, read: Callable[[], Iterable[tuple[Labels, float]]]):
    self.name, self.about, self._read = name, about, read

  def samples(self) -> Iterable[tuple[str, Labels, float]]:
    """Return (suffix of the name, labels, value) of each sample."""
    return [('', own, value) for own, value in self._read()]


class Histogram:
  """Counts of values up to each bound, their sum and their number."""

  kind = 'histogram'

  def __init__(self, name: str, about: str, bounds: tuple[float, ...]):
    self.name, self.about, self._bounds = name, about, bounds
    self._values: dict[Labels, tuple[list[int], list[float]]] = {}
    self._lock = threading.Lock()

  def add(self, own: Labels, value: float) -> None:
    """Count a value."""
    with self._lock:
      if own not in self._values:
        self._values[own] = [0] * (len(self._bounds) + 1), [0.0]
      counts, total = self._values[own]
      counts[bisect.bisect_left(self._bounds, value)] += 1
      total[0] += value

  def samples(self) -> Iterable[tuple[str, Labels, float]]:
    """Return (suffix of the name, labels, value) of each sample; buckets are cumulative."""
    found: list[tuple[str, Labels, float]] = []
    with self._lock:
      for own, (counts, total) in self._values.items():
        below = 0
        for bound, count in zip((*self._bounds, None), counts):
          below += count
          shown = '+Inf' if bound is None else f'{bound:g}'
          found.append(('_bucket', (*own, ('le', shown)), below))
        found += [('_sum', own, total[0]), ('_count', own, below)]
    return found


class Metrics:
  """All metrics of a server."""

  def __init__(self):
    self.requests = Counter('ensdistill_requests_total', 'Requests by route and status.')
    self.rows = Counter('ensdistill_rows_total', 'Rows that were predicted.')
    self.outside = Counter(
      'ensdistill_rows_outside_total', 'Predicted rows of tables far outside the training range.'
    )
    self.uncertainty = Counter(
      'ensdistill_uncertainty_sum_total', 'Sum of uncertainties over predicted rows, by kind.'
    )
    self.seconds = Histogram(
      'ensdistill_request_seconds', 'Time from the head of a request to its answer.', SECONDS
    )
    self.batch_rows = Histogram('ensdistill_batch_rows', 'Rows of a batch, without padding.', ROWS)
    self.batch_seconds = Histogram('ensdistill_batch_seconds', 'Time of one batch.', SECONDS)
    self.all: list[Counter | Gauge | Histogram] = [self.requests, self.rows, self.outside]
    self.all += [self.uncertainty, self.seconds, self.batch_rows, self.batch_seconds]

  def gauge(
    self, name: str, about: str, read: Callable[[], Iterable[tuple[Labels, float]]]
  ) -> None:
    """Add a number that is read when the metrics are."""
    self.all.append(Gauge(name, about, read))

  def text(self) -> str:
    """Return all metrics in the text format."""
    lines = []
    for metric in self.all:
      lines += [f'# HELP {metric.name} {metric.about}', f'# TYPE {metric.name} {metric.kind}']
      for suffix, own, value in metric.samples():
        shown = ','.join(f'{name}="{text}"' for name, text in own)
        lines.append(f'{metric.name}{suffix}{{{shown}}} {value:.12g}' if own else
                     f'{metric.name}{suffix} {value:.12g}')  # fmt: skip
    return '\n'.join(lines) + '\n'


def resident() -> float | None:
  """Return the bytes of memory that the process holds; None where the system hides them."""
  try:
    with open('/proc/self/statm') as file:
      return int(file.read().split()[1]) * os.sysconf('SC_PAGE_SIZE')
  except (OSError, ValueError, IndexError):
    return None
