"""The HTTP server around an application that never answers: pipelined requests, and the end."""

import asyncio
import socket
import threading
import time

import pytest

from ensdistill.serving import server

REQUEST = b'GET / HTTP/1.1\r\nhost: x\r\n\r\n'


async def silent(scope, receive, send):
  if scope['type'] == 'lifespan':
    await receive()
    await send({'type': 'lifespan.startup.complete'})
    await receive()
    await send({'type': 'lifespan.shutdown.complete'})
  else:
    await asyncio.Event().wait()


@pytest.fixture
def own():
  """A running server with `port` and `thread`, which ends after the test."""
  listener = server.listening('127.0.0.1', 0)
  found = server.server(silent, 5, 16)
  found.config.timeout_graceful_shutdown = 0.3
  found.port = listener.getsockname()[1]
  found.thread = threading.Thread(target=found.run, args=([listener],), daemon=True)
  found.thread.start()
  yield found
  found.should_exit = True
  found.thread.join(20)
  assert not found.thread.is_alive()


def asking(own, data: bytes) -> socket.socket:
  """Return a connection over which bytes were sent."""
  client = socket.create_connection(('127.0.0.1', own.port), 10)
  client.sendall(data)
  return client


def test_many_pipelined_requests_end_their_connection(own):
  with asking(own, REQUEST * 1000) as client:
    assert client.recv(100) == b''
  with asking(own, REQUEST * 60) as client:
    client.settimeout(0.3)
    with pytest.raises(TimeoutError):
      client.recv(100)


def test_requests_that_outlast_the_end_are_counted(own):
  with asking(own, REQUEST), asking(own, REQUEST):
    until = time.monotonic() + 10
    while len(own.server_state.tasks) < 2:
      assert time.monotonic() < until
      time.sleep(0.01)
    own.should_exit = True
    own.thread.join(20)
  assert own.unanswered == 2


def test_without_requests_none_is_unanswered(own):
  own.should_exit = True
  own.thread.join(20)
  assert own.unanswered == 0
