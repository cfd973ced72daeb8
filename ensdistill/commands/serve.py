"""Serve finished students over HTTP, with a page for people.

STUDENT is a run's folder, its folder student, or NAME=FOLDER. The server has no password and no
encryption: beyond this machine, put it behind a proxy that has them. SIGTERM and Ctrl-C answer the
requests that were accepted and end it with exit code 0. Exit codes: 2 for wrong usage or a port
that is in use, 1 if a student cannot be read.
"""

import argparse
import contextlib
import dataclasses
import ipaddress
import os
import sys
import time
from collections.abc import Callable, Sequence

from ensdistill import stopping
from ensdistill.commands.usage import (
  Parser,
  add_imports,
  fail,
  memory_in_one_line,
  reason,
  student_folder,
)
from ensdistill.serving.limits import Limits

# Seconds after which a thread passes the interpreter on: a batch that is ready to run does not wait
# for long while requests are read.
SWITCH = 0.0005


def _parse(arguments, prog: str):
  about, *more = (__doc__ or '').split('\n\n')
  parser = Parser(prog=prog, description=about, epilog='\n'.join(more))
  parser.add_argument('student', metavar='STUDENT', nargs='+', help='what to serve')

  def add(name, metavar, help, kind, default):
    text = f'{help} (default: {default})'
    parser.add_argument(f'--{name}', metavar=metavar, help=text, type=kind, default=default)

  def limit(name, metavar, help, low, high):
    add(name, metavar, help, _number(low, high), getattr(Limits, name))

  add('host', 'HOST', 'the address to listen on', str, '127.0.0.1')
  add('port', 'PORT', 'the port; 0 takes a free one', _number(0, 2**16 - 1), 8000)
  limit('max_batch', 'N', 'rows of one batch', 1, 2**20)
  limit('max_wait_ms', 'MS', 'time that a request waits for others to share its batch', 0.0, 10_000)
  limit('max_body_mb', 'MB', 'largest body of a request', 0.01, 10_000)
  limit('max_rows', 'N', 'rows of one request', 1, 2**20)
  limit('timeout_s', 'S', 'time for a request to arrive, and for its prediction', 0.01, 10_000)
  limit('queue', 'N', 'rows that wait for a student; more are refused with 503', 1, 2**20)
  add_imports(parser)
  return parser.parse_args(arguments)


def _number(low: float, high: float) -> Callable[[str], float]:
  """Return the reader of a flag: a number of the bounds' type that lies between them."""
  kind = type(low)

  def read(text: str) -> float:
    with contextlib.suppress(ValueError):
      if low <= (value := kind(text)) <= high:
        return value
    what = 'a whole number' if kind is int else 'a number'
    raise argparse.ArgumentTypeError(f'{text!r} must be {what} from {low:,} to {high:,}')

  return read


@memory_in_one_line()
def main(arguments: Sequence[str] | None = None, prog: str = 'ensdistill serve') -> None:
  """Run the command with its arguments, those of the process by default."""
  options = _parse(arguments, prog)
  try:
    import httptools  # noqa: F401
    import starlette  # noqa: F401
    import uvicorn  # noqa: F401
  except ImportError as error:
    fail(2, f'serve needs {error.name}: pip install "ensdistill[serve]"')
  from ensdistill.serving import server

  try:
    listener = server.listening(options.host, options.port)
  except (OSError, UnicodeError) as error:
    fail(2, f'--host={options.host} --port={options.port}: {_cause(error)}')
  host, port = listener.getsockname()[:2]
  address = f'http://[{host}]:{port}' if ':' in host else f'http://{host}:{port}'
  with listener:
    try:
      with stopping.listening():
        own, running = _prepared(_loaded(options), options, address)
        stopping.check()
    except stopping.Stopped as stop:
      fail(stop.code, f'stopped by {stop.name}: it had not started')
    _serve(own, running, listener, address)


def _cause(error: Exception) -> str:
  import errno

  if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
    return 'the port is in use: choose another one, or --port=0 for a free one'
  text = getattr(error, 'strerror', None) or str(error)
  return f'cannot listen there ({text})'


def _loaded(options) -> list:
  """Return the students under their names."""
  from ensdistill import export, runtime
  from ensdistill.data.images import decode
  from ensdistill.serving import hosted

  runtime.prepare()
  try:
    decode.largest()  # a wrong limit on pixels is refused here, not in every request
  except ValueError as error:
    fail(2, str(error))
  found = []
  for given in options.student:
    name, path = _name_and_path(given)
    try:
      found.append((name, path, export.load(student_folder(path), options.imports)))
    except (ValueError, OSError) as error:
      fail(1, reason(error))
    stopping.check()
  try:
    return hosted.named(found)
  except ValueError as error:
    fail(2, str(error))


def _name_and_path(given: str) -> tuple[str | None, str]:
  """Return the parts of NAME=FOLDER; a folder whose name has = in it stays whole."""
  name, equals, path = given.partition('=')
  return (name, path) if equals and not os.path.exists(given) else (None, given)


def _prepared(students, options, address: str):
  """Return the service of the students and its HTTP server. This traces the networks."""
  from ensdistill.serving import app, server, service

  limits = Limits(**{one.name: getattr(options, one.name) for one in dataclasses.fields(Limits)})
  own, began = service.Service(students, limits), time.monotonic()

  def on_ready() -> None:
    if own.failed:
      running.should_exit = True
    elif own.ready:
      seconds = time.monotonic() - began
      print(f'ready after {seconds:.1f} s: {address} (stop with Ctrl-C)', flush=True)

  application = app.App(own, on_ready).starlette()
  running = server.server(application, limits.timeout_s, server.connections())
  return own, running


def _serve(own, running, listener, address: str) -> None:
  """Serve until a signal asks the process to stop."""
  for one in own.students.values():
    print(f'{one.name}: {one.model!r}', flush=True)
  host = listener.getsockname()[0]
  if not ipaddress.ip_address(host.partition('%')[0]).is_loopback:
    print('every machine that reaches this address can use it: it has no password', file=sys.stderr)
  print(f'starting at {address}', flush=True)
  sys.setswitchinterval(SWITCH)
  running.run(sockets=[listener])
  if own.failed:
    fail(1, f'a student cannot predict: {own.failed}')
  if running.unanswered:
    print(f'stopped: {running.unanswered} requests took too long and were not answered', flush=True)
  else:
    print('stopped: all accepted requests were answered', flush=True)
