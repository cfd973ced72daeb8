"""A server of one student, measured by a client in another process on the same machine.

  python -m benchmarks.serve STUDENT [--seconds=20] [--flat=200000]

Three measurements:
- load: RATE requests a second of one row, from 32 connections; latencies are counted from the time
  at which a request was due, so a server that falls behind shows it.
- flat: the server's memory over many requests, as fast as 32 connections can.
- burst: ten times as many rows at once as the queue holds, in requests of 64 rows, and as many
  requests of one row at once as connections are allowed; after each, one second of normal load.

The client is plain asyncio: it writes prepared bytes and reads the head of the answer alone.
"""

import argparse
import asyncio
import contextlib
import io
import json
import pathlib
import re
import resource
import signal
import subprocess
import sys
import time
from collections import Counter
from typing import NamedTuple

import numpy as np

from benchmarks import timing

CONNECTIONS, RATE = 32, 1000
BURST_ROWS = 64


class Measured(NamedTuple):
  """Statuses and seconds of requests."""

  statuses: Counter
  seconds: list[float]
  wall: float

  def row(self, name: str) -> list:
    ms = 1000 * np.array(self.seconds)
    p50, p99, p999 = np.percentile(ms, [50, 99, 99.9])
    rate = len(ms) / self.wall
    return [name, f'{rate:,.0f}', *(f'{value:.1f}' for value in (p50, p99, p999, ms.max()))]


HEAD = ['', 'requests/s', 'p50 ms', 'p99 ms', 'p99.9 ms', 'largest ms']


class Connection:
  """One connection that is kept alive."""

  def __init__(self, port: int):
    self._port = port

  async def open(self):
    self._reader, self._writer = await asyncio.open_connection('127.0.0.1', self._port)
    return self

  async def ask(self, request: bytes) -> tuple[int, bytes]:
    """Return the status and the body of an answer."""
    self._writer.write(request)
    head = await self._reader.readuntil(b'\r\n\r\n')
    length = re.search(rb'content-length: (\d+)', head)
    body = await self._reader.readexactly(int(length[1])) if length else b''
    return int(head[9:12]), body

  def close(self):
    self._writer.close()


def request_of(rows: np.ndarray, kind: str = 'json') -> bytes:
  """Return the bytes of a request."""
  if kind == 'json':
    body = json.dumps({'instances': np.round(rows, 4).tolist()}).encode()
  else:
    file = io.BytesIO()
    np.save(file, rows.astype(np.float32))
    body = file.getvalue()
  head = 'POST /v1/models/model:predict HTTP/1.1\r\nhost: localhost\r\n'
  head += f'content-type: application/{kind}\r\ncontent-length: {len(body)}\r\n\r\n'
  return head.encode() + body


async def load(port: int, requests: list[bytes], rate: float, seconds: float) -> Measured:
  """Send `rate` requests a second, each on the first of the connections that is free."""
  free: asyncio.Queue = asyncio.Queue()
  for _ in range(CONNECTIONS):
    free.put_nowait(await Connection(port).open())
  found = Measured(Counter(), [], seconds)
  began, pending = time.perf_counter(), set()

  async def one(connection, number: int) -> None:
    due = began + number / rate
    status, _ = await connection.ask(requests[number % len(requests)])
    found.statuses[status] += 1
    found.seconds.append(time.perf_counter() - due)
    free.put_nowait(connection)

  for number in range(int(rate * seconds)):
    wait = began + number / rate - time.perf_counter()
    if wait > 0:
      await asyncio.sleep(wait)
    task = asyncio.create_task(one(await free.get(), number))
    pending.add(task)
    task.add_done_callback(pending.discard)
  await asyncio.gather(*pending)
  return found._replace(wall=time.perf_counter() - began)


async def flood(port: int, requests: list[bytes], count: int) -> Measured:
  """Send requests as fast as they are answered, from all connections."""
  found = Measured(Counter(), [], 0.0)
  numbers = iter(range(count))
  began = time.perf_counter()

  async def client() -> None:
    connection = await Connection(port).open()
    for number in numbers:
      sent = time.perf_counter()
      status, _ = await connection.ask(requests[number % len(requests)])
      found.statuses[status] += 1
      found.seconds.append(time.perf_counter() - sent)
    connection.close()

  await asyncio.gather(*(client() for _ in range(CONNECTIONS)))
  return found._replace(wall=time.perf_counter() - began)


async def burst(port: int, requests: list[bytes], count: int) -> Measured:
  """Send requests at once, each on a connection of its own."""
  connections = []
  for _ in range(count):
    connections.append(await Connection(port).open())
  found = Measured(Counter(), [], 0.0)
  began = time.perf_counter()

  async def one(number: int, connection) -> None:
    try:
      status, _ = await connection.ask(requests[number % len(requests)])
    except (ConnectionError, asyncio.IncompleteReadError):
      status = 0
    found.statuses[status] += 1
    found.seconds.append(time.perf_counter() - began)
    connection.close()

  await asyncio.gather(*(one(*pair) for pair in enumerate(connections)))
  return found._replace(wall=time.perf_counter() - began)


@contextlib.contextmanager
def server(student: str, *flags: str):
  """Start `ensdistill serve` at a free port; give its process and the port."""
  command = [sys.executable, '-m', 'ensdistill', 'serve', f'model={student}', '--port=0', *flags]
  process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
  try:
    assert process.stdout is not None
    for line in process.stdout:
      if found := re.match(r'ready after .* http://.*:(\d+)', line):
        break
    else:
      raise SystemExit('the server did not start')
    yield process, int(found[1])
  finally:
    process.send_signal(signal.SIGTERM)
    code = process.wait(60)
    print(f'the server ended with exit code {code}', flush=True)


def memory(process) -> float:
  """Return the resident megabytes of a process."""
  text = pathlib.Path(f'/proc/{process.pid}/status').read_text()
  return int(re.search(r'VmRSS:\s+(\d+)', text)[1]) / 1024  # type: ignore[index]


def shape_of(student: str) -> list[int]:
  """Return the shape of an input of a student."""
  folder = pathlib.Path(student)
  folder = folder / 'student' if (folder / 'student').is_dir() else folder
  return json.loads((folder / 'config.json').read_text())['shape']


def main() -> None:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('student', help="a run's folder, or its folder student")
  parser.add_argument('--seconds', type=float, default=20, help='of each load')
  parser.add_argument('--rate', type=float, default=RATE, help='requests a second')
  parser.add_argument('--flat', type=int, default=200_000, help='requests for the memory')
  parser.add_argument('--queue', type=int, default=1024, help='rows that wait, in the burst')
  parser.add_argument('--connections', type=int, default=4000, help='of the second burst')
  parser.add_argument('--only', default='load,flat,burst', help='the ones to make')
  options = parser.parse_args()
  limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
  resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
  print(f'machine: {json.dumps(timing.machine())}', flush=True)
  shape, random = shape_of(options.student), np.random.default_rng(0)
  requests = [request_of(random.random((1, *shape))) for _ in range(64)]
  rows, notes = [], []
  if 'load' in options.only:
    with server(options.student) as (process, port):
      asyncio.run(load(port, requests, options.rate, 2))
      found = asyncio.run(load(port, requests, options.rate, options.seconds))
      rows.append(found.row(f'{options.rate:,.0f} requests/s, {CONNECTIONS} connections'))
      notes.append(f'load: statuses {dict(found.statuses)}, memory {memory(process):.0f} MB')
  if 'flat' in options.only:
    with server(options.student) as (process, port):
      asyncio.run(flood(port, requests, options.flat // 20))
      memories, parts = [memory(process)], []
      for _ in range(10):
        parts.append(asyncio.run(flood(port, requests, options.flat // 10)))
        memories.append(memory(process))
      statuses = sum((part.statuses for part in parts), Counter())
      whole = Measured(statuses, sum((p.seconds for p in parts), []), sum(p.wall for p in parts))
      rows.append(whole.row(f'as fast as {CONNECTIONS} connections can'))
      shown = ', '.join(f'{value:.1f}' for value in memories)
      notes.append(
        f'flat: statuses {dict(statuses)}; MB after each tenth of {options.flat:,}: {shown}'
      )
  if 'burst' in options.only:
    many = [request_of(random.random((BURST_ROWS, *shape)), 'x-npy')]
    with server(options.student, f'--queue={options.queue}') as (process, port):
      asyncio.run(load(port, requests, options.rate, 2))
      count = 10 * options.queue // BURST_ROWS
      for size, own in ((BURST_ROWS, many), (1, requests)):
        found = asyncio.run(burst(port, own, count))
        after = asyncio.run(load(port, requests, options.rate, 1))
        rows.append(after.row(f'the second after {count:,} requests of {size} rows at once'))
        notes.append(
          f'burst: {count:,} requests of {size} rows at once, the queue holds {options.queue:,} '
          f'rows: statuses {dict(found.statuses)} in {found.wall:.2f} s; the second after: '
          f'{dict(after.statuses)}, memory {memory(process):.0f} MB'
        )
        count = options.connections
  print(f'\n{timing.markdown(HEAD, rows)}\n')
  print('\n'.join(notes))


if __name__ == '__main__':
  main()
