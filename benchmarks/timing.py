"""Shared tools of the benchmarks: the machine, contenders in turns, a ceiling, resumable tables."""

import argparse
import contextlib
import json
import math
import multiprocessing
import os
import pathlib
import shlex
import statistics
import subprocess
import sys
import time
import types
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ensdistill import runtime
from ensdistill.storage import safe

FORMAT = 3  # of the saved tables


class Contender(NamedTuple):
  """One way to do the work of a row."""

  run: Callable[[int], None]  # runs this many steps and waits for the last one
  compile_seconds: float | None = None
  gigabytes: float | None = None  # of its largest program: arguments, results, temporaries


@contextlib.contextmanager
def apart(make: Callable[..., dict[str, Contender]], *arguments):
  """Yield the contenders of make(*arguments), which run in a separate process.

  That process has default memory and thread settings; ours has those of `runtime.prepare`.
  """
  context = multiprocessing.get_context('spawn')
  here, there = context.Pipe()
  process = context.Process(target=_serve, args=(there, make, *arguments), daemon=True)

  def answer(what, question=None):
    try:
      if question:
        here.send(question)
      return here.recv()
    except (EOFError, OSError) as error:
      process.join(10)
      raise RuntimeError(
        f'{what} died in the separate process (exit code {process.exitcode})'
      ) from error

  try:
    process.start()
    there.close()  # so that recv fails when the process ends
    device, described = answer('the function that makes the contenders')
    if device != _device():
      raise RuntimeError(f'the separate process runs on {device}, this one on {_device()}')

    def turn_of(name):
      return lambda count: answer(name, (name, count))

    yield {name: Contender(turn_of(name), *facts) for name, facts in described.items()}
  finally:
    here.close()
    if process.pid:
      process.join(10)
      process.kill()
      process.join()


def _serve(pipe, make, *arguments):
  prepare(flags=False, memory=False)
  contenders = make(*arguments)
  pipe.send((_device(), {name: tuple(one[1:]) for name, one in contenders.items()}))
  with contextlib.suppress(EOFError, OSError):  # the other end is closed
    while True:
      name, count = pipe.recv()
      contenders[name].run(count)
      pipe.send(None)


@contextlib.contextmanager
def served(command: list[str]):
  """Yield the contenders of another program, and its versions; see `eager.serve`."""
  pipe = subprocess.PIPE
  with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
    questions, answers = process.stdin, process.stdout
    assert questions and answers

    def answer(question: str = '') -> str:
      try:
        if question:
          print(question, file=questions, flush=True)
        line = answers.readline()
      except OSError:
        line = ''
      if not line:
        code = process.wait()
        raise RuntimeError(f'{" ".join(command)} died (exit code {code}); its error is above')
      return line

    def turn_of(name):
      return lambda count: answer(f'{name} {count}')

    try:
      first = json.loads(answer())
      yield {name: Contender(turn_of(name)) for name in first['contenders']}, first['versions']
    finally:
      process.kill()


def _device() -> str:
  return jax.devices()[0].device_kind


def prepare(*, flags: bool = True, memory: bool = True) -> None:
  """Switch the compilation cache off and leave memory for PyTorch; call before any computation."""
  os.environ.setdefault('XLA_PYTHON_CLIENT_PREALLOCATE', 'false')
  runtime.prepare('', flags=flags, memory=memory)


def machine() -> dict:
  """Return the processor and its load in the last minutes."""
  return {'processor': runtime.processor(), 'load': load()}


def load() -> list[float]:
  return [round(value, 2) for value in os.getloadavg()]


def compiled(function, *arguments, options=None):
  """Compile a jitted function for these arguments; return the program, its compile seconds and GB.

  options: of XLA; None keeps JAX's defaults.
  """
  began = time.perf_counter()
  program = function.lower(*arguments).compile(compiler_options=options)
  seconds, memory = time.perf_counter() - began, program.memory_analysis()
  if memory is None:  # some back ends do not report it
    return program, seconds, None
  held = memory.argument_size_in_bytes + memory.output_size_in_bytes - memory.alias_size_in_bytes
  return program, seconds, (held + memory.temp_size_in_bytes) / 2**30


def take_turns(
  contenders: dict[str, Contender], *, seconds: float, turn: float, rounds: int = 5
) -> dict[str, list[float]]:
  """Return the seconds per step of each contender in every round.

  Contenders take turns so that a slow minute affects all of them. A turn is the number of steps
  that fills `turn` seconds. There are at least `rounds` rounds, and more until `seconds` are over.
  The first contender of a round is the last of the next one.
  """
  order, counts = list(contenders), {}
  for name, contender in contenders.items():
    _timed(contender, 1)
    counts[name] = max(1, math.ceil(turn / _timed(contender, 1)))
  taken: dict[str, list[float]] = {name: [] for name in contenders}
  began = time.perf_counter()
  while len(taken[order[0]]) < rounds or time.perf_counter() - began < seconds:
    for name in order:
      taken[name].append(_timed(contenders[name], counts[name]) / counts[name])
    order = order[1:] + order[:1]
  return taken


def _timed(contender, count):
  began = time.perf_counter()
  contender.run(count)
  return time.perf_counter() - began


def ratio(taken: dict[str, list[float]], name: str, base: str) -> float:
  """Return the median over rounds of the ratio of seconds, `name` over `base`."""
  return statistics.median(a / b for a, b in zip(taken[name], taken[base]))


def extremes(taken: dict[str, list[float]], name: str, base: str) -> tuple[float, float]:
  """Return the smallest and the largest of the ratios whose median is `ratio`."""
  ratios = [a / b for a, b in zip(taken[name], taken[base])]
  return min(ratios), max(ratios)


def matmul(dtype: str) -> tuple[Contender, float]:
  """Return a product of large square matrices, which is the ceiling, and its FLOP."""
  size = 2048 if jax.default_backend() == 'cpu' else 8192
  a, b = jax.random.normal(jax.random.key(0), (2, size, size)).astype(dtype)
  multiply = jax.jit(jnp.matmul)

  def run(count):
    for _ in range(count):
      last = multiply(a, b)
    jax.block_until_ready(last)

  return Contender(run), 2 * size**3


class Table:
  """Rows by name, saved after each row so that a later call continues; in memory without a path."""

  def __init__(self, path: str | None):
    self._path = path and pathlib.Path(path)
    described = {'format': FORMAT, 'machine': machine(), 'versions': runtime.versions()}
    self.saved: dict[str, Any] = described | {'rows': {}}
    print(f'machine: {json.dumps(described["machine"])}')
    print(f'versions: {json.dumps(described["versions"])}', flush=True)
    if self._path and self._path.exists():
      self.saved = json.loads(self._path.read_text())
      if self._identity(self.saved) != self._identity(described):
        raise SystemExit(
          f'{path} was made on another machine or with other versions: use another file'
        )

  @staticmethod
  def _identity(saved):
    return saved.get('format'), saved['machine']['processor'], saved['versions']

  @property
  def rows(self) -> dict[str, dict]:
    return self.saved['rows']

  def add(self, name: str, row: dict) -> None:
    self.rows[name] = row | {'load': load()}
    self._save()

  def _save(self):
    if self._path:
      safe.write_atomic(self._path, json.dumps(self.saved, indent=2) + '\n')


def command(
  doc: str,
  rows: dict[str, list],
  measure: Callable,
  table: Callable,
  more: Mapping[str, str] = types.MappingProxyType({}),
) -> None:
  """Run the command line of a benchmark.

  rows: {'quick': ..., 'cpu': ..., 'gpu': ...}; measure(row, seconds, turn, **more) -> the
  measurements to save; table(saved rows) -> text; more: {option: help} of the benchmark alone.
  """
  parser = argparse.ArgumentParser(
    description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument(
    '--quick', action='store_true', help='measure small rows only, to test the benchmark'
  )
  parser.add_argument('--json', help='file for the measurements; a second call continues it')
  parser.add_argument(
    '--minutes', type=float, default=25, help='start no row but the first after this many minutes'
  )
  parser.add_argument('--only', default='', help='measure only rows whose name contains this text')
  for name, text in more.items():
    parser.add_argument(f'--{name}', help=text)
  options = parser.parse_args()
  own = {name: getattr(options, name) for name in (name.replace('-', '_') for name in more)}
  prepare(flags=False)  # our programs carry their options, the others use JAX's defaults
  mode = 'quick' if options.quick else 'cpu' if jax.default_backend() == 'cpu' else 'gpu'
  seconds, turn = {'quick': (1, 0), 'cpu': (15, 0.5), 'gpu': (4, 0.2)}[mode]
  saved, began, measured = Table(options.json), time.monotonic(), 0
  for row in rows[mode]:
    if options.only not in str(row) or str(row) in saved.rows:
      continue
    if measured and time.monotonic() - began > 60 * options.minutes:
      print(f'left for the next call: {row}')
      continue
    saved.add(str(row), measure(row, seconds, turn, **own))
    measured += 1
    print(f'{row}: done after {time.monotonic() - began:.0f} s', flush=True)
  print(f'\n{caption(saved.saved)}\n\n{table(saved.rows)}')


def caption(saved: dict) -> str:
  """Return how a table was made: its command, machine and versions, as Markdown."""
  module = getattr(sys.modules['__main__'].__spec__, 'name', 'benchmarks')
  paths = {'--json': 'FILE', '--torch-python': 'PYTHON'}
  given = [argument.partition('=') for argument in sys.argv[1:]]
  options = [f'{name}{equals}{paths.get(name, value)}' for name, equals, value in given]
  command = shlex.join(['python', '-m', module, *options])
  versions = saved['versions'].copy()
  for row in saved['rows'].values():
    versions |= row.get('versions', {})
  where = versions.pop('processor', ''), versions.pop('platform', ''), versions.pop('devices', '')
  packages = ', '.join(f'{name} {version}' for name, version in versions.items())
  return f'`{command}` on {", ".join(filter(None, where))}; {packages}.'


def markdown(head: list[str], rows: list[list]) -> str:
  """Return a Markdown table; None becomes a dash."""

  def cell(value):
    return '–' if value is None else show(value)

  lines = [head, ['---'] + ['---:'] * (len(head) - 1), *[[cell(v) for v in row] for row in rows]]
  return '\n'.join(f'| {" | ".join(line)} |' for line in lines)


def between(median: float, ends: tuple[float, float]) -> str:
  """Return the median and the extremes as '1.2 (1.1–1.3)'."""
  return f'{show(median)} ({"–".join(map(show, ends))})'


def show(value) -> str:
  """Return a number with three significant digits, and text unchanged."""
  if isinstance(value, str):
    return value
  digits = 0 if not value else max(0, 2 - math.floor(math.log10(abs(value))))
  return f'{value:,.{digits}f}'
