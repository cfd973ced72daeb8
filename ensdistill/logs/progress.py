"""How far a stage is: a bar on a terminal, a few plain lines in a log file."""

import time
from collections.abc import Mapping

LINES = 20  # a stage, at most
SECONDS = 1.0  # between two lines, at least
SILENCE = 30.0  # seconds without a line, at most


def make(stream, stage: str, total: int, start: int, examples_per_step: int):
  if stream is None:
    return Progress()
  kind = Bar if stream.isatty() and start < total else Lines
  return kind(stream, stage, total, start, examples_per_step)


class Progress:
  """Shows nothing."""

  def update(self, step: int, values: Mapping | None = None):
    pass

  def line(self, text: str):
    pass

  def close(self):
    pass


class Lines(Progress):
  """Lines without carriage returns: one each 5 % of the steps, and one at least each 30 seconds."""

  def __init__(self, stream, stage, total, start, examples_per_step):
    self._stream, self._stage = stream, stage
    self._total, self._examples = total, examples_per_step
    self._step = self._printed = self._first = start
    self._began = self._last = time.monotonic()
    self._timed_from = (
      None  # (step, time) after which the rate is measured: compiling is none of it
    )
    self._values = ''

  def update(self, step, values=None):
    now = time.monotonic()
    self._step, self._values = int(step), show(values)
    if self._timed_from is None:
      self._timed_from = self._step, now
    silent = now - self._last
    part = lambda step: LINES * step // self._total
    if silent >= SILENCE or (silent >= SECONDS and part(self._step) > part(self._printed)):
      if self._step < self._total:
        self._print(now)
        self._timed_from = self._step, now

  def line(self, text):
    print(text, file=self._stream, flush=True)

  def close(self):
    if self._step > self._printed:
      self._timed_from = self._first, self._began
      self._print(time.monotonic())

  def _print(self, now):
    share = 100 * self._step // self._total
    text = f'{self._stage}: {self._step}/{self._total} ({share} %)'
    step, began = self._timed_from
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
  """tqdm's bar."""

  def __init__(self, stream, stage, total, start, examples_per_step):
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
    self._bar.set_postfix_str(show(values), refresh=False)
    self._bar.update(int(step) - self._bar.n)

  def line(self, text):
    self._bar.write(text, file=self._stream)

  def close(self):
    self._bar.close()


def show(values: Mapping | None, most: int = 4) -> str:
  """The latest few values."""
  items = list((values or {}).items())[:most]
  return ', '.join(f'{name} {float(value):.4g}' for name, value in items)


def count(rate: float) -> str:
  return f'{rate:,.0f}' if rate >= 100 else f'{rate:.3g}'


def clock(seconds: float) -> str:
  minutes, seconds = divmod(round(seconds), 60)
  hours, minutes = divmod(minutes, 60)
  return f'{hours}:{minutes:02d}:{seconds:02d}' if hours else f'{minutes}:{seconds:02d}'
