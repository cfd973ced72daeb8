"""Hostile requests: documented errors only, the server stays up, its memory is bounded."""

import io
import json
import socket
import struct
import threading
import time
import zlib

import hostile
import numpy as np
import PIL.Image
import pytest
import servers
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ensdistill.serving import metrics
from ensdistill.serving.refused import STATUSES

from .conftest import COLUMNS

QUICK = settings(
  max_examples=20, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
)
LONG = settings(QUICK, max_examples=300, derandomize=False)
GROWTH = 300e6  # bytes that hostile requests may add for a while


def png_of(width: int, height: int, content: bytes) -> bytes:
  """Return a PNG whose header says any size."""

  def chunk(kind: bytes, data: bytes) -> bytes:
    body = kind + data
    return struct.pack('>I', len(data)) + body + struct.pack('>I', zlib.crc32(body))

  head = struct.pack('>IIBBBBB', width, height, 8, 0, 0, 0, 0)
  packed = zlib.compress(content, 9)
  return b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', head) + chunk(b'IDAT', packed) + chunk(b'IEND', b'')


def npy(x, **settings) -> bytes:
  file = io.BytesIO()
  np.lib.format.write_array(file, x, **settings)
  return file.getvalue()


def floats_of(shape: str) -> bytes:
  """Return the head of an array of any shape, without its values."""
  return hostile.npy_of(f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}}}")


class Bomb:
  """Would run code if it were unpickled."""

  def __reduce__(self):
    return eval, ('1/0',)


EPS = b'%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n(/etc/passwd) (r) file\n%%EOF'
IMAGE = png_of(8, 8, b'\0' * 72)
BODIES = {
  'pickled objects': ('application/x-npy', npy(np.array([Bomb()], object), allow_pickle=True)),
  'a huge shape': ('application/x-npy', floats_of('(999999999999, 8, 8, 1)')),
  'a negative shape': ('application/x-npy', floats_of('(-1, 8, 8, 1)')),
  'code in a header': ('application/x-npy', hostile.npy_of('__import__("os").abort()')),
  'a header that is nested deeply': ('application/x-npy', hostile.npy_of('-' * 9000 + '1')),
  'values without size': ('application/x-npy', npy(np.zeros((2, 8, 8, 1), 'S0'))),
  'texts': ('application/x-npy', npy(np.full((1, 8, 8, 1), 'x' * 99))),
  'complex numbers': ('application/x-npy', npy(np.zeros((1, 8, 8, 1), complex))),
  'dates': ('application/x-npy', npy(np.zeros((1, 8, 8, 1), 'M8[s]'))),
  'NaN': ('application/x-npy', npy(np.full((1, 8, 8, 1), np.nan))),
  'infinity': ('application/x-npy', npy(np.full((1, 8, 8, 1), np.inf, np.float16))),
  'a cut array': ('application/x-npy', npy(np.zeros((4, 8, 8, 1)))[:-9]),
  'an array with more behind it': ('application/x-npy', npy(np.zeros((4, 8, 8, 1))) + b'more'),
  'an EPS': ('image/png', EPS),
  'an EPS as bytes': ('application/octet-stream', EPS),
  'a cut image': ('image/png', IMAGE[:45]),
  'an image of nothing': ('image/png', png_of(0, 0, b'')),
  'a huge header': ('image/png', png_of(2**31 - 1, 2**31 - 1, b'')),
  'a bomb': ('image/png', png_of(30_000, 30_000, b'\0' * 10**6)),
  'a script': ('image/jpeg', b'<script>alert(1)</script>'),
  'deep lists': ('application/json', b'{"instances":' + b'[' * 10**5 + b']' * 10**5 + b'}'),
  'deep objects': ('application/json', b'{"instances":[' + b'{"a":' * 10**5),
  'many empty lists': ('application/json', b'{"instances":[' + b'[],' * 300_000 + b'[]]}'),
  'a long number': ('application/json', b'{"instances":[[' + b'9' * 10**6 + b']]}'),
  'two keys': ('application/json', b'{"instances":[],"instances":[[[["x"]]]]}'),
  'half a character': ('application/json', b'{"instances":["\\ud800"]}'),
  'bytes that are no text': ('application/json', b'{"instances":["\xff"]}'),
  'nothing': ('application/json', b''),
}  # fmt: skip


def is_documented(status: int, content) -> None:
  """Hold an answer against what /openapi.json says of errors."""
  assert status == 200 or status in STATUSES and status < 500, (status, content)
  if status != 200:
    assert content.keys() == {'error'} and '\n' not in content['error']
    assert len(content['error']) <= 500 and 'Traceback' not in content['error']


def is_alive(running) -> None:
  status, _, found = running.predict('table', [[45, 1.5, 80]])
  assert status == 200 and len(found['predictions']) == 1


@pytest.mark.parametrize('name', BODIES)
def test_bodies(running, name):
  kind, body = BODIES[name]
  status, _, found = running.request(
    'POST', '/v1/models/digits:predict', body, {'content-type': kind}
  )
  is_documented(status, found)
  assert status == 413 if name in ('a bomb', 'a huge header') else status in (400, 413)


def test_images_of_other_sizes_are_resized(running):
  for size in ((1, 1), (1, 900), (900, 1)):
    file = io.BytesIO()
    PIL.Image.new('L', size).save(file, 'PNG')
    kind = {'content-type': 'image/png'}
    assert running.request('POST', '/v1/models/digits:predict', file.getvalue(), kind)[0] == 200


PATHS = (
  '/../../../../etc/passwd', '/page/../../pyproject.toml', '/page/%2e%2e/app.py',
  '/page/style.css/', '/page/..%2fserver.py', '/page//etc/passwd', '//etc/passwd',
  '/v1/models/../../config.json',
  '/v1/models/%2e%2e%2f%2e%2e', '/v1/models/digits%00', '/v1/models/digits/config.json', '/%00',
  '/page/\\..\\..\\x', '/v1/models/digits:predict/..', '/page/style.css%3f', '/index.html',
  '/page/index.html', '/.git/config', '/page/__init__.py', '/%ff%fe', '/v1/models/' + 'a' * 5000,
)  # fmt: skip


@pytest.mark.parametrize('path', PATHS)
def test_no_other_file_is_readable(running, path):
  status, _, found = running.request('GET', path)
  is_documented(status, found)
  assert status in (400, 404)


PREDICT = b'POST /v1/models/table:predict HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n'
CHUNKED = b'transfer-encoding: chunked\r\n\r\n'
RAW = {
  'no HTTP': b'\x16\x03\x01\x02\x00\x01\x00' + b'x' * 200,
  'another version': b'GET / HTTP/9.9\r\n\r\n',
  'an endless line': b'GET /' + b'a' * 200_000,
  'an endless header': b'GET / HTTP/1.1\r\nx: ' + b'a' * 200_000,
  'many headers': b'GET / HTTP/1.1\r\n' + b'x: y\r\n' * 40_000,
  'a large head': b'GET / HTTP/1.1\r\nx: ' + b'a' * 70_000 + b'\r\n\r\n',
  'two lengths': PREDICT + b'content-length: 2\r\ncontent-length: 3\r\n\r\n{}',
  'a length and chunks': PREDICT + b'content-length: 2\r\n' + CHUNKED + b'0\r\n\r\n',
  'a length that is none': PREDICT + b'content-length: x\r\n\r\n',
  'a negative length': PREDICT + b'content-length: -1\r\n\r\n',
  'a length of many digits': PREDICT + b'content-length: ' + b'9' * 300 + b'\r\n\r\n',
  'a chunk that is none': PREDICT + CHUNKED + b'xyz\r\n',
  'a huge chunk': PREDICT + CHUNKED + b'ffffffffffff\r\n' + b' ' * 2_000_000,
  'an address of bytes': b'GET /\xff\xfe HTTP/1.1\r\nhost: x\r\n\r\n',
  'a null in a header': b'GET / HTTP/1.1\r\nx: a\0b\r\n\r\n',
  'no host': b'GET /nothing HTTP/1.1\r\n\r\n',
  'connect': b'CONNECT x:1 HTTP/1.1\r\nhost: x\r\n\r\n',
  'an upgrade': b'GET /nothing HTTP/1.1\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n',
  'a folded header': b'GET /nothing HTTP/1.1\r\nx: a\r\n b\r\n\r\n',
  'a tag': b'GET / HTTP/1.0\r\nif-none-match: ' + b'"x",' * 9_000 + b'\r\n\r\n',
}  # fmt: skip


@pytest.mark.parametrize('name', RAW)
def test_bytes_that_are_almost_a_request(running, name):
  found = running.raw(RAW[name], 1.5)
  if found:
    assert found.startswith(b'HTTP/1.1 ')
    status = int(found[9:12])
    assert status == 200 or (status in STATUSES and status < 500), found[:300]
    if status != 200:
      assert json.loads(found.partition(b'\r\n\r\n')[2])['error']
  is_alive(running)


def test_slow_clients_are_ended(students):
  with servers.Running([('table', students['table'])], timeout_s=0.5) as own:
    began = time.monotonic()
    found = {}

    def one(name, data):
      found[name] = own.raw(data, 20)

    data = {
      'head': b'GET / HTTP/1.1\r\nhost',
      'body': PREDICT + b'content-length: 9\r\n\r\n{"in',
      'nothing': b'',
      'answered': b'POST /nothing HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\n{"in',
    }
    threads = [threading.Thread(target=one, args=pair) for pair in data.items()]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert found['head'].startswith(b'HTTP/1.1 408') and found['body'].startswith(b'HTTP/1.1 408')
    assert found['nothing'] == b'' and found['answered'].startswith(b'HTTP/1.1 404')
    assert time.monotonic() - began < 15
    is_alive(own)


@pytest.mark.slow
def test_a_client_that_reads_nothing_is_ended(students):
  with servers.Running([('table', students['table'])], timeout_s=0.5) as own:
    request = b'GET /openapi.json HTTP/1.1\r\nhost: x\r\n\r\n'
    with socket.create_connection(('127.0.0.1', own.port), 20) as slow:
      slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
      slow.setblocking(False)
      until = time.monotonic() + 20
      while own.server.server_state.connections or time.monotonic() < until - 19.5:
        try:
          slow.send(50 * request)
        except BlockingIOError:
          time.sleep(0.02)
        except (ConnectionResetError, BrokenPipeError):
          break
        assert time.monotonic() < until, 'the connection is still there'
    is_alive(own)


JSON = st.recursive(
  st.none() | st.booleans() | st.floats() | st.integers(-(10**30), 10**30) | st.text(max_size=5),
  lambda inner: (
    st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
  ),
  max_leaves=20,
)
NUMBERS = st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(10**20), 10**20)
ROWS = st.lists(st.lists(NUMBERS, min_size=3, max_size=3), max_size=5)
NAMED = st.lists(st.fixed_dictionaries(dict.fromkeys(COLUMNS, NUMBERS)), max_size=3)
REQUESTS = st.one_of(
  st.fixed_dictionaries({'instances': JSON | ROWS | NAMED}).map(
    lambda found: json.dumps(found).encode()
  ),
  JSON.map(lambda found: json.dumps(found).encode()),
  st.binary(max_size=300),
  hostile.damaged(npy(np.ones((2, 3)))),
  hostile.damaged(IMAGE),
  hostile.damaged(b'{"instances": [[1, 2, 3], [4, 5, 6]]}'),
  hostile.damaged(b'age,height,weight\n1,2,3\n4,5,6\n'),
)
ARGUMENTS = dict(
  name=st.sampled_from(['digits', 'table', 'values', 'single', 'colour']),
  body=REQUESTS,
  kind=st.sampled_from(['application/json', 'application/x-npy', 'application/octet-stream',
                        'image/png', 'image/jpeg', 'text/csv', 'text/plain', '\xff']),
  query=st.sampled_from(['', '?coverage=.9', '?abstain=.1&members=1', '?scale=1/255', '?%00',
                         '?coverage=0', '?calibrated=true', '?coverage=1e-320', '?scale=1e308',
                         '?a' * 30]),
)  # fmt: skip


def attempt(running, name, body, kind, query) -> None:
  path = f'/v1/models/{name}:predict{query}'
  status, _, found = running.request('POST', path, body, {'content-type': kind})
  is_documented(status, found)
  if status == 200:
    for row in found['predictions']:
      values = row.get('probabilities') or row['mean']
      assert all(abs(value) < 1e300 for value in values)


@QUICK
@given(**ARGUMENTS)
def test_drawn_requests(running, name, body, kind, query):
  attempt(running, name, body, kind, query)


@pytest.mark.slow
def test_many_drawn_requests(running):
  before = metrics.resident()

  @LONG
  @given(**ARGUMENTS)
  def drawn(name, body, kind, query):
    attempt(running, name, body, kind, query)

  drawn()
  for _ in range(3):
    for kind, body in BODIES.values():
      running.request('POST', '/v1/models/digits:predict', body, {'content-type': kind})
  is_alive(running)
  if before is not None:
    assert metrics.resident() - before < GROWTH


@pytest.mark.slow
def test_many_large_bodies_at_a_time_are_bounded(students):
  with servers.Running([('digits', students['digits'])], max_body_mb=16, timeout_s=30) as own:
    before, most, done = metrics.resident(), [0.0], threading.Event()

    def watch():
      while not done.wait(0.02):
        most[0] = max(most[0], metrics.resident() or 0)

    watching = threading.Thread(target=watch)
    watching.start()
    body = b'{"instances":[' + b'[0],' * (2 * 10**6) + b'[0]]}'
    statuses = []

    def one():
      kind = {'content-type': 'application/json'}
      statuses.append(own.request('POST', '/v1/models/digits:predict', body, kind)[0])

    threads = [threading.Thread(target=one) for _ in range(8)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    done.set()
    watching.join()
    assert set(statuses) <= {413, 503, 504} and 413 in statuses
    if before is not None:
      assert most[0] - before < 1e9
    assert own.request('GET', '/healthz')[0] == 200
