"""Progress of a stage: a bar on a terminal, a few plain lines in a log file."""

import time
from collections.abc import Mapping

LINES = 20  # most lines per stage, silence aside
SECONDS = 1.0  # shortest time between two lines
SILENCE = 30.0  # longest time without a line, in seconds


class Progress:
  """A progress display that shows nothing; also the interface of every display."""

  def update(self, step: int, values: Mapping | None = None):
    """Show the step and the latest values."""

  def line(self, text: str):
    """Print a line between the updates."""

  def close(self):
    """Finish the display."""


class Lines(Progress):
  """Lines without carriage returns: one per 5 % of the steps, and at least one per 30 seconds."""

  def __init__(self, stream, stage: str, total: int, start: int, examples_per_step: int):
    self._stream, self._stage = stream, stage
    self._total, self._examples = total, examples_per_step
    self._step = self._printed = self._first = start
    self._began = self._last = time.monotonic()
    # The rate is measured from this (step, time) on, set after the first update: that excludes
    # compilation.
    self._timed_from: tuple[int, float] | None = None
    self._values = ''

  def update(self, step, values=None):
    now = time.monotonic()
    self._step, self._values = int(step), latest(values)
    if self._timed_from is None:
      self._timed_from = self._step, now
    silent = now - self._last
    due = self._part(self._step) > self._part(self._printed)
    if silent >= SILENCE or (silent >= SECONDS and due):
      if self._step < self._total:
        self._print(now, *self._timed_from)
        self._timed_from = self._step, now

  def line(self, text):
    print(text, file=self._stream, flush=True)

  def close(self):
    if self._step > self._printed:
      self._print(time.monotonic(), self._first, self._began)

  def _part(self, step: int) -> int:
    return LINES * step // self._total

  def _print(self, now: float, step: int, began: float):
    """Print a line; the rate is measured from (step, began) on."""
    share = 100 * self._step // self._total
    text = f'{self._stage}: {self._step}/{self._total} ({share} %)'
    if self._step > step and now > began:
      rate = (self._step - step) / (now - began)
      text += f', {count(rate)} steps/s, {count(rate * self._examples)} examples/s'
      if self._step < self._total:
        text += f', {clock((self._total - self._step) / rate)} left'
    if self._step == self._total:
      text += f', took {clock(now - self._began)}'
    self.line(text + (f', {self._values}' if self._values else ''))
    self._printed, self._last = self._step, now


class Bar(Progress):
  """A tqdm bar."""

  def __init__(self, stream, stage: str, total: int, start: int, examples_per_step: int):
    from tqdm import tqdm

    class WithExamples(tqdm):
      @property
      def format_dict(self):
        known = super().format_dict
        rate = known['rate'] or (known['n'] - known['initial']) / (known['elapsed'] or 1)
        return known | {'examples': f'{count(rate * examples_per_step)} examples/s'}

    self._stream = stream
    self._bar = WithExamples(
      total=total,
      initial=start,
      desc=stage,
      unit=' steps',
      file=stream,
      dynamic_ncols=True,
      miniters=0,
      bar_format='{desc} {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} '
      '[{elapsed}<{remaining}, {rate_noinv_fmt}, {examples}{postfix}]',
    )

  def update(self, step, values=None):
    self._bar.set_postfix_str(latest(values), refresh=False)
    self._bar.update(int(step) - self._bar.n)

  def line(self, text):
    self._bar.write(text, file=self._stream)

  def close(self):
    self._bar.close()


def display(stream, stage: str, total: int, start: int, examples_per_step: int) -> Progress:
  """Return the progress display that fits the stream; None shows nothing."""
  if stream is None:
    return Progress()
  kind = Bar if stream.isatty() and start < total else Lines
  return kind(stream, stage, total, start, examples_per_step)


def latest(values: Mapping | None) -> str:
  """Return the first few values as text."""
  items = list((values or {}).items())[:4]
  return ', '.join(f'{name} {float(value):.4g}' for name, value in items)


def count(rate: float) -> str:
  """Return a rate as text."""
  return f'{rate:,.0f}' if rate >= 100 else f'{rate:.3g}'


def clock(seconds: float) -> str:
  """Return a duration as [hours:]minutes:seconds."""
  minutes, seconds = divmod(round(seconds), 60)
  hours, minutes = divmod(minutes, 60)
  return f'{hours}:{minutes:02d}:{seconds:02d}' if hours else f'{minutes}:{seconds:02d}'
