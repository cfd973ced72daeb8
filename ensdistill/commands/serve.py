"""Serve finished students over HTTP, with a page for people.

STUDENT is a run's folder, its folder student, or NAME=FOLDER. The server has no password and no
encryption: beyond this machine, put it behind a proxy that has them. SIGTERM and Ctrl-C answer the
requests that were accepted and end it with exit code 0. Exit codes: 2 for wrong usage or a port
that is in use, 1 if a student cannot be read.
"""

import ipaddress
import os
import sys
import time
from collections.abc import Sequence

from ensdistill import stopping
from ensdistill.commands.usage import (
  Parser,
  add_imports,
  fail,
  memory_in_one_line,
  reason,
  student_folder,
)

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

  add('host', 'HOST', 'the address to listen on', str, '127.0.0.1')
  add('port', 'PORT', 'the port; 0 takes a free one', _port, 8000)
  add('max_batch', 'N', 'rows of one batch', _count, 128)
  add('max_wait_ms', 'MS', 'time that a request waits for others to share its batch', _time, 2.0)
  add('max_body_mb', 'MB', 'largest body of a request', _size, 8.0)
  add('max_rows', 'N', 'rows of one request', _count, 1024)
  add('timeout_s', 'S', 'time for a request to arrive, and for its prediction', _size, 30.0)
  add('queue', 'N', 'rows that wait for a student; more are refused with 503', _count, 1024)
  add_imports(parser)
  return parser.parse_args(arguments)


def _port(text: str) -> int:
  value = int(text)
  if not 0 <= value < 2**16:
    raise ValueError
  return value


def _count(text: str) -> int:
  value = int(text)
  if not 1 <= value <= 2**20:
    raise ValueError
  return value


def _time(text: str) -> float:
  value = float(text)
  if not 0 <= value <= 10_000:
    raise ValueError
  return value


def _size(text: str) -> float:
  value = float(text)
  if not 0.01 <= value <= 10_000:
    raise ValueError
  return value


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
  with listener:
    try:
      with stopping.listening():
        students = _loaded(options)
        stopping.check()
    except stopping.Stopped as stop:
      fail(stop.code, f'stopped by {stop.name}: it had not started')
    _serve(students, listener, options)


def _cause(error: Exception) -> str:
  import errno

  if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
    return 'the port is in use: choose another one, or --port=0 for a free one'
  text = getattr(error, 'strerror', None) or str(error)
  return f'cannot listen there ({text})'


def _loaded(options) -> list:
  """Return the students under their names."""
  from ensdistill import export, runtime
  from ensdistill.serving import hosted

  runtime.prepare()
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


def _serve(students, listener, options) -> None:
  """Serve until a signal asks the process to stop."""
  from ensdistill.serving import app, server, service

  names = ('max_batch', 'max_wait_ms', 'max_body_mb', 'max_rows', 'timeout_s', 'queue')
  limits = service.Limits(**{name: getattr(options, name) for name in names})
  own = service.Service(students, limits)
  host, port = listener.getsockname()[:2]
  address = f'http://[{host}]:{port}' if ':' in host else f'http://{host}:{port}'
  began = time.monotonic()

  def on_ready() -> None:
    if own.failed:
      running.should_exit = True
    elif own.ready:
      seconds = time.monotonic() - began
      print(f'ready after {seconds:.1f} s: {address} (stop with Ctrl-C)', flush=True)

  running = server.server(
    app.App(own, on_ready).starlette(), limits.timeout_s, server.connections()
  )
  for one in students:
    print(f'{one.name}: {one.model!r}', flush=True)
  if not ipaddress.ip_address(host.partition('%')[0]).is_loopback:
    print('every machine that reaches this address can use it: it has no password', file=sys.stderr)
  print(f'starting at {address}', flush=True)
  sys.setswitchinterval(SWITCH)
  running.run(sockets=[listener])
  if own.failed:
    fail(1, f'a student cannot predict: {own.failed}')
  print('stopped: all accepted requests were answered', flush=True)
