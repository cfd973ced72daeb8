"""The HTTP server: uvicorn with limits on connections, heads and slow clients.

uvicorn does not bound the size of a head, the number of pipelined requests, or the time that a
client takes to send a head or to read an answer. Times are checked once a second for all
connections, so requests pay nothing for it.
"""

import asyncio
import contextlib
import json
import os
import re
import resource
import signal
import socket
import threading
import time
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from ensdistill import stopping

HEAD = 2**16  # bytes of the address and the headers
CONNECTIONS = 4096
PIPELINED = 64  # requests of a connection that wait for the answer to an earlier one
KEEP_ALIVE = 75  # seconds that an idle connection stays open
_SPARE = 64  # file descriptors for all else
_UPGRADE = re.compile(rb'(?im)^upgrade(?=:)')
_LOOK = 10  # ticks of a tenth of a second


class HeadTooLarge(Exception):
  """Raised inside the parser."""


class TooManyPipelined(Exception):
  """Raised inside the parser."""


class Protocol(HttpToolsProtocol):
  """One connection."""

  most, timeout = CONNECTIONS, 30.0  # set by `server`

  def connection_made(self, transport) -> None:
    super().connection_made(transport)
    self._in_head, self._head, self._since = True, 0, time.monotonic()
    self._stuck: float | None = None  # since when an answer waits for the client to read
    if len(self.connections) > self.most:
      self._refuse(503, 'too many connections: try again later', 'retry-after: 1\r\n')

  def data_received(self, data: bytes) -> None:
    began_in_head = self._in_head
    if began_in_head:
      if not self._head:
        self._since = time.monotonic()
      self._head += len(data)
      data = _without_upgrade(data)
    super().data_received(data)
    if began_in_head and self._in_head and self._head > HEAD and not self.transport.is_closing():
      self._refuse(431, f'the head is larger than {HEAD:,} bytes')

  def on_message_begin(self) -> None:
    super().on_message_begin()
    self._in_head, self._parsed, self._since = True, 0, time.monotonic()

  def on_url(self, url: bytes) -> None:
    super().on_url(url)
    self._grow(len(url))

  def on_header(self, name: bytes, value: bytes) -> None:
    super().on_header(name, value)
    self._grow(len(name) + len(value) + 4)

  def _grow(self, size: int) -> None:
    self._parsed += size
    if self._parsed > HEAD:
      raise HeadTooLarge

  def on_headers_complete(self) -> None:
    self._in_head, self._head = False, 0
    super().on_headers_complete()
    if len(self.pipeline) > PIPELINED:
      raise TooManyPipelined  # ends the connection

  def on_message_complete(self) -> None:
    super().on_message_complete()
    self._in_head = True

  def send_400_response(self, msg: str) -> None:
    """Refuse bytes that are not an HTTP request, in JSON like all other errors."""
    if getattr(self, '_parsed', 0) > HEAD:
      self._refuse(431, f'the head is larger than {HEAD:,} bytes')
    else:
      self._refuse(400, 'the request is not HTTP/1.1')

  def _refuse(self, status: int, message: str, headers: str = '') -> None:
    """Answer with an error outside of the application, and close the connection."""
    if self.transport.is_closing():
      return
    if self.cycle is not None and not self.cycle.response_complete:  # another answer is under way
      self.transport.close()
      return
    body = json.dumps({'error': message}).encode()
    head = f'content-type: application/json\r\ncontent-length: {len(body)}\r\n{headers}'
    self.transport.write(STATUS_LINE[status] + f'{head}connection: close\r\n\r\n'.encode() + body)
    self.transport.close()

  def look(self, now: float) -> None:
    """End a connection whose client is too slow."""
    idle = self.cycle is None or self.cycle.response_complete
    if self.flow.write_paused or self.transport.is_closing():
      self._stuck = self._stuck or now
      if now - self._stuck > self.timeout:
        self.transport.abort()
      return
    self._stuck = None
    # For the first head, for the rest of a head, or for a body that was answered before its end.
    waits = self.cycle is None or self._head or not self._in_head
    if idle and waits and now - self._since > self.timeout:
      if self._head:
        self._refuse(408, f'the head did not arrive within {self.timeout:g} s')
      else:
        self.transport.close()


def _without_upgrade(data: bytes) -> bytes:
  """Return the bytes of a head with the header Upgrade under another name.

  Clients that prefer HTTP/2, such as Java's, ask for an upgrade and send the body as HTTP/1.1. The
  parser would drop this body.
  """
  if b'upgrade' not in data[:HEAD].lower():
    return data
  head, end, body = data.partition(b'\r\n\r\n')
  return _UPGRADE.sub(b'x-grade', head) + end + body


class Server(uvicorn.Server):
  """uvicorn's server, which ends with exit code 0 after it has answered what it accepted."""

  unanswered = 0  # requests that were still open when the time for a graceful end was over

  async def _wait_tasks_to_complete(self) -> None:
    try:
      await super()._wait_tasks_to_complete()
    except asyncio.CancelledError:  # after timeout_graceful_shutdown
      self.unanswered = len(self.server_state.connections)
      raise

  def on_tick(self, counter: int):  # a coroutine of the base class
    if counter % _LOOK == 0:
      now = time.monotonic()
      for connection in list(self.server_state.connections):
        connection.look(now)  # type: ignore[union-attr]
    return super().on_tick(counter)

  @contextlib.contextmanager
  def capture_signals(self):
    """Stop at SIGTERM or SIGINT; unlike uvicorn, do not raise the signal again at the end."""
    ours = [one for one in stopping.SIGNALS if signal.getsignal(one) is not signal.SIG_IGN]
    if threading.current_thread() is not threading.main_thread():
      ours = []
    before = {one: signal.signal(one, self.handle_exit) for one in ours}
    try:
      yield
    finally:
      for one, handler in before.items():
        signal.signal(one, handler)

  def handle_exit(self, sig: int, frame) -> None:
    """Stop; a second SIGINT ends the process at once."""
    if self.should_exit and sig == signal.SIGINT:
      os._exit(128 + sig)
    self.should_exit = True


def listening(host: str, port: int) -> socket.socket:
  """Return a socket that listens; raise OSError if it cannot."""
  family, kind, protocol, _, address = socket.getaddrinfo(
    host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
  )[0]
  own = socket.socket(family, kind, protocol)
  try:
    own.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a server that ended a moment ago
    own.bind(address)
    own.listen(2048)
  except OSError:
    own.close()
    raise
  return own


def connections() -> int:
  """Raise the limit on open files; return the number of connections that it allows."""
  soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
  wanted = CONNECTIONS + _SPARE
  if soft != resource.RLIM_INFINITY and soft < wanted:
    most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    with contextlib.suppress(ValueError, OSError):
      resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
  return CONNECTIONS if soft == resource.RLIM_INFINITY else max(16, min(CONNECTIONS, soft - _SPARE))


def server(app: Any, timeout: float, most: int) -> Server:
  """Return the server of an ASGI application.

  timeout: seconds for a client to send a head, or to read what it is sent.
  most: connections at a time.
  """
  limited = type('Limited', (Protocol,), {'most': most, 'timeout': timeout})
  settings: dict[str, Any] = {'http': limited, 'ws': 'none', 'lifespan': 'on', 'log_config': None}
  settings |= {'access_log': False, 'log_level': 'error', 'server_header': False}
  settings |= {'proxy_headers': False, 'timeout_keep_alive': KEEP_ALIVE, 'loop': _loop()}
  # Predictions may take `timeout`, then their answers are sent.
  return Server(uvicorn.Config(app, timeout_graceful_shutdown=int(timeout) + 5, **settings))


def _loop() -> str:
  try:
    import uvloop  # noqa: F401
  except ImportError:  # it is optional, and not there for every system
    return 'asyncio'
  return 'uvloop'
