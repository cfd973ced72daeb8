"""A server of students in this process, and raw requests to it."""

import contextlib
import http.client
import json
import socket
import threading
import time

from ensdistill.serving import app, hosted, limits, server, service


class Running:
  """A server at a free port; `students` are (name, model)."""

  def __init__(self, students, **settings):
    self.limits = limits.Limits(**{'max_batch': 8, 'max_rows': 32, **settings})
    named = hosted.named([(name, name, model) for name, model in students])
    self.service = service.Service(named, self.limits)
    self._ready = threading.Event()
    self._listener = server.listening('127.0.0.1', 0)
    self.port = self._listener.getsockname()[1]
    self.address = f'http://127.0.0.1:{self.port}'
    application = app.App(self.service, self._ready.set).starlette()
    self.server = server.server(application, self.limits.timeout_s, server.connections())
    sockets = [self._listener]
    self._thread = threading.Thread(target=self.server.run, args=(sockets,), daemon=True)

  def __enter__(self):
    self._thread.start()
    assert self._ready.wait(120) and self.service.ready, self.service.failed
    return self

  def __exit__(self, *error):
    self.server.should_exit = True
    self._thread.join(60)
    assert not self._thread.is_alive()

  @contextlib.contextmanager
  def starting(self):
    """Run without waiting until the students are ready."""
    self._thread.start()
    try:
      yield self
    finally:
      self.__exit__()

  def request(self, method, path, body=None, headers=(), timeout=60):
    """Return (status, headers, body) of one request; JSON is parsed."""
    with contextlib.closing(http.client.HTTPConnection('127.0.0.1', self.port, timeout)) as own:
      own.timeout = timeout
      own.request(method, path, body, dict(headers))
      answer = own.getresponse()
      content = answer.read()
    found = {name.lower(): value for name, value in answer.getheaders()}
    if found.get('content-type') == 'application/json' and content:
      content = json.loads(content, parse_constant=no_constant)
    return answer.status, found, content

  def predict(self, name, instances, query='', **more):
    """Return (status, headers, answer) of rows in JSON."""
    body = json.dumps({'instances': instances})
    kind = {'content-type': 'application/json'}
    return self.request('POST', f'/v1/models/{name}:predict{query}', body, kind, **more)

  def raw(self, data: bytes, timeout=20.0) -> bytes:
    """Send bytes as they are; return all that comes back until the server closes or is silent."""
    with socket.create_connection(('127.0.0.1', self.port), timeout) as own:
      with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        own.sendall(data)
      return received(own, timeout)


def received(own: socket.socket, timeout: float) -> bytes:
  """Return what a server sends until it closes the connection or the time is over."""
  found, until = b'', time.monotonic() + timeout
  while time.monotonic() < until:
    own.settimeout(max(0.01, until - time.monotonic()))
    try:
      part = own.recv(65536)
    except (TimeoutError, ConnectionResetError):
      break
    if not part:
      break
    found += part
  return found


def no_constant(name):
  raise AssertionError(f'{name} is not JSON')
