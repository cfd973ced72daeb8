"""The routes: predictions as the library's, options, errors, limits, metrics, files of the page."""

import concurrent.futures
import io
import json
import re
import socket
import time

import numpy as np
import PIL.Image
import pytest
import servers

from ensdistill.serving import app, pages, requests
from ensdistill.student.calibration import LEVELS

from .conftest import COLUMNS, RANDOM, TABLE

DIGITS = RANDOM.random((5, 8, 8, 1)).astype(np.float32)
ROW = [TABLE[0].tolist()]


def npy(x) -> bytes:
  file = io.BytesIO()
  np.save(file, x)
  return file.getvalue()


def png(x) -> bytes:
  file = io.BytesIO()
  PIL.Image.fromarray(x).save(file, 'PNG')
  return file.getvalue()


def post(running, name, body, kind, query=''):
  return running.request('POST', f'/v1/models/{name}:predict{query}', body, {'content-type': kind})


def test_classes_equal_those_of_the_library(running, students):
  query = '?coverage=0.8&sets=aps&abstain=0.3&members=true'
  status, _, found = running.predict('digits', DIGITS.tolist(), query)
  model = students['digits']
  p, members = model.predict(DIGITS), model.members(DIGITS)
  assert status == 200 and found['classes'] == ['0', '1', '2'] and found['model'] == 'digits'
  rows = found['predictions']
  for name, values in (('probabilities', p.probs), ('members', members), ('total', p.total),
                       ('data', p.data), ('knowledge', p.knowledge)):  # fmt: skip
    np.testing.assert_allclose([row[name] for row in rows], values, atol=1e-6)
  assert [row['label'] for row in rows] == [str(k) for k in p.probs.argmax(1)]
  np.testing.assert_allclose([row['confidence'] for row in rows], p.probs.max(1), atol=1e-6)
  assert [row['abstain'] for row in rows] == p.abstain(0.3).tolist()
  sets = [[str(k) for k in np.flatnonzero(row)] for row in p.predict_set(0.8, 'aps')]
  assert [row['set'] for row in rows] == sets


def test_calibrated_probabilities(running, students):
  _, _, found = running.predict('digits', DIGITS.tolist(), '?calibrated=true')
  expected = students['digits'].predict(DIGITS, calibrated=True).probs
  got = [row['probabilities'] for row in found['predictions']]
  np.testing.assert_allclose(got, expected, atol=1e-6)


def test_values_equal_those_of_the_library(running, students):
  x = TABLE[:4]
  _, _, found = running.predict('values', x.tolist(), '?coverage=0.5&members=true')
  p, quantiles = students['values'].predict(x), students['values'].quantiles(x, [0.25, 0.5, 0.75])
  rows = found['predictions']
  assert found['classes'] is None and list(rows[0]['quantiles']) == ['q25', 'q50', 'q75']
  np.testing.assert_allclose([row['mean'] for row in rows], p.mean, rtol=1e-5)
  np.testing.assert_allclose([row['total'] for row in rows], p.total, rtol=1e-5)
  got = np.array([list(row['quantiles'].values()) for row in rows]).swapaxes(0, 1)
  np.testing.assert_allclose(got, quantiles, rtol=1e-5)
  members = students['values'].members(x)
  np.testing.assert_allclose([row['members'] for row in rows], members, rtol=1e-5)


@pytest.mark.parametrize('names', [COLUMNS, COLUMNS[::-1]])
def test_columns_are_matched_by_name(running, students, names):
  places = [COLUMNS.index(name) for name in names]
  rows = [dict(zip(names, row)) for row in TABLE[:3, places].tolist()]
  _, _, found = running.predict('table', rows)
  got = [row['probabilities'] for row in found['predictions']]
  np.testing.assert_allclose(got, students['table'].predict(TABLE[:3]).probs, atol=1e-6)


def test_arrays_tables_and_images_in_their_formats(running, students):
  images = RANDOM.integers(0, 256, (3, 4, 4, 3)).astype(np.uint8)
  expected = students['colour'].predict(images).probs
  bodies = [(npy(images), 'application/x-npy', ''), (npy(images), 'application/octet-stream', '')]
  bodies += [(npy(images.astype(np.float64)), 'application/x-npy', '?scale=1/255')]
  bodies += [(npy(np.asfortranarray(images)), 'application/x-npy', '')]
  for body, kind, query in bodies:
    status, _, found = post(running, 'colour', body, kind, query)
    got = [row['probabilities'] for row in found['predictions']]
    np.testing.assert_allclose(got, expected, atol=1e-6)
  for kind in ('image/png', 'application/octet-stream'):
    _, _, found = post(running, 'colour', png(images[1]), kind)
    np.testing.assert_allclose(found['predictions'][0]['probabilities'], expected[1], atol=1e-6)
  table = '\n'.join([','.join(COLUMNS), *(','.join(map(repr, row)) for row in TABLE[:2].tolist())])
  _, _, found = post(running, 'table', table, 'text/csv; charset=utf-8')
  got = [row['probabilities'] for row in found['predictions']]
  np.testing.assert_allclose(got, students['table'].predict(TABLE[:2]).probs, atol=1e-6)


def test_a_row_far_outside_is_marked_and_counted(running):
  _, _, found = running.predict('table', [*ROW, [1e6, 1e6, 1e6]])
  assert [row['outside'] for row in found['predictions']] == [False, True]
  assert (
    'ensdistill_rows_outside_total{model="table"}' in running.request('GET', '/metrics')[2].decode()
  )


def test_no_rows_no_predictions(running):
  assert running.predict('digits', [])[2]['predictions'] == []


def test_what_a_student_is(running, students):
  status, _, found = running.request('GET', '/v1/models')
  by_name = {one['name']: one for one in found['models']}
  assert status == 200 and by_name.keys() == students.keys()
  table, digits, colour = (by_name[name] for name in ('table', 'digits', 'colour'))
  assert [column['name'] for column in table['inputs']['columns']] == COLUMNS
  low = [column['low'] for column in table['inputs']['columns']]
  assert np.allclose(low, students['table'].spec['inputs']['low'])
  assert table['classes'] == ['no', 'yes'] and by_name['values']['task'] == 'regression'
  assert digits['inputs'] == {'kind': 'image', 'shape': [8, 8, 1], 'mean': [0.3], 'central': 1}
  assert digits['members'] == 3 and by_name['single']['members'] == 0
  assert digits['total']['levels'] == list(LEVELS) and digits['calibrated']
  assert not colour['calibrated'] and 'validation' in colour['why_uncalibrated']
  assert running.request('GET', '/v1/models/table')[2] == table


@pytest.mark.parametrize(
  ('name', 'query', 'why'),
  [
    ('digits', '?coverage=2', "coverage='2' must be a number from 0.001 to 0.999"),
    ('digits', '?covrage=.9', "did you mean 'coverage'"),
    ('digits', '?coverage=.9&coverage=.8', 'given twice'),
    ('digits', '?sets=all', 'must be one of lac, aps'),
    ('digits', '?scale=0', 'above 0 and up to 1'),
    ('digits', '?scale=1/0', 'above 0 and up to 1'),
    ('digits', '?members=perhaps', 'true or false'),
    ('digits', '?coverage=%ff', 'query cannot be read'),
    ('single', '?members=true', 'one network without members'),
    ('values', '?calibrated=true', 'calibrated is for classifiers'),
    ('table', '?scale=1/255', 'scale is for images'),
    ('values', '?sets=aps', 'sets is for classifiers'),
    ('digits', '?sets=aps', 'sets has no effect without coverage'),
    ('colour', '?coverage=.9', 'validation'),
  ],
)
def test_options_that_cannot_be(running, name, query, why):
  status, _, found = running.predict(name, [], query)
  assert status == 400 and why in found['error']


@pytest.mark.parametrize(
  ('name', 'body', 'why'),
  [
    ('digits', b'{', 'not JSON'),
    ('digits', b'\xff\xfe\x00', 'not'),
    ('digits', b'[]', 'must be {"instances": [...]}'),
    ('digits', b'{"instances": 3}', 'must be a list'),
    ('digits', b'{"instances": [], "x": 1}', 'options go into the query'),
    ('digits', b'{"instances": [[[[2]]]]}', 'shape'),
    ('digits', json.dumps({'instances': (9 * DIGITS).tolist()}).encode(), 'floats in [0, 1]'),
    ('table', b'{"instances": [[1, 2, NaN]]}', 'holds NaN'),
    ('table', b'{"instances": [[1, 2, 1e999]]}', 'infinity'),
    ('table', b'{"instances": [[1, 2, null]]}', 'holds null'),
    ('table', b'{"instances": [[1, 2, true]]}', 'holds true or false'),
    ('table', b'{"instances": [[1, 2, "3"]]}', 'holds a text'),
    ('table', b'{"instances": [[1, 2], [1]]}', 'lengths differ'),
    ('table', b'{"instances": [[1, 2, 1%s]]}' % (b'0' * 400), 'too large'),
    ('table', b'{"instances": [[1, 2, 1%s]]}' % (b'0' * 9000), ''),
    ('table', b'{"instances": [1, 2, 3]}', 'lists of numbers'),
    ('table', b'{"instances": [{"age": 1, "height": 2}]}', "missing 'weight'"),
    ('table', b'{"instances": [{"age": 1, "height": 2, "wieght": 1}]}', "is 'wieght' meant"),
    ('table', b'{"instances": [{"age": 1, "height": 2, "weight": null}]}', 'must be a number'),
    ('digits', b'{"instances": ' + b'[' * 4_000 + b']' * 4_000 + b'}', ''),
    ('table', b'{"instances": [[1e17, -1e17, 1e17]]}', None),
  ],
)
def test_bodies_that_cannot_be(running, name, body, why):
  status, headers, found = post(running, name, body, 'application/json')
  if why is None:  # large, and finite
    assert status in (200, 400)
    return
  assert status == 400 and why in found['error'] and '\n' not in found['error']
  assert 'on_invalid' not in found['error']  # an argument of the library
  assert headers['content-type'] == 'application/json'


def test_types_of_bodies(running):
  for kind in ('application/x-www-form-urlencoded', 'text/plain', '', 'text/csv', 'x' * 3000):
    status, _, found = post(running, 'digits', b'', kind)
    assert status == 415 and 'application/x-npy, image/png' in found['error']
  kinds = {'content-type': 'application/json', 'content-encoding': 'gzip'}
  assert running.request('POST', '/v1/models/digits:predict', b'', kinds)[0] == 415


def test_addresses_and_methods(running):
  assert running.predict('digit', [])[2]['error'].startswith(
    "unknown student 'digit': did you mean"
  )
  for path in ('/v1/models/none', '/nothing', '/v1/models/', '/page/', '/page/../server.py', '//'):
    status, _, found = running.request('GET', path)
    assert status == 404 and found['error']
  status, headers, found = running.request('GET', '/v1/models/digits:predict')
  assert status == 405 and headers['allow'] == 'POST'
  assert found['error'] == 'this address takes POST, not GET'
  status, headers, _ = running.request('DELETE', '/v1/models')
  assert status == 405 and headers['allow'] in ('GET, HEAD', 'HEAD, GET')
  status, headers, content = running.request('HEAD', '/healthz')
  assert status == 200 and content == b''


def test_limits_of_rows_and_bytes(running):
  status, _, found = running.predict('table', ROW * 33)
  assert status == 413 and '32 rows' in found['error']
  assert post(running, 'table', npy(np.zeros((33, 3))), 'application/x-npy')[0] == 413
  assert len(running.predict('table', ROW * 32)[2]['predictions']) == 32
  large = b' ' * (2**20 + 1)
  status, headers, found = post(running, 'table', large, 'application/json')
  assert status == 413 and '1 MB' in found['error'] and headers['connection'] == 'close'
  chunks = (b' ' * 65536 for _ in range(40))
  assert post(running, 'table', chunks, 'application/json')[0] == 413
  bomb = png(np.zeros((8000, 8000), np.uint8))
  status, _, found = post(running, 'digits', bomb, 'image/png')
  assert len(bomb) < 2**20 and status == 413 and 'pixels' in found['error']


def test_a_client_of_http_2_is_answered_without_the_upgrade(running):
  body = json.dumps({'instances': ROW}).encode()
  head = b'POST /v1/models/table:predict HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\n'
  head += b'Connection: Upgrade, HTTP2-Settings, close\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMA\r\n'
  found = running.raw(head + b'content-length: %d\r\n\r\n' % len(body) + body, 10)
  assert found.startswith(b'HTTP/1.1 200 ') and b'"predictions"' in found


def test_a_client_that_does_not_wait_for_100_continue_is_answered_at_once(running):
  head = b'POST /v1/models/table:predict HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\n'
  began = time.monotonic()
  found = running.raw(head + b'expect: 100-continue\r\ncontent-length: 9999999\r\n\r\n', 4)
  assert found.startswith(b'HTTP/1.1 413 ') and time.monotonic() - began < 3
  with socket.create_connection(('127.0.0.1', running.port), 10) as own:
    own.sendall(head + b'expect: 100-continue\r\ncontent-length: 2\r\n\r\n')
    assert own.recv(100).startswith(b'HTTP/1.1 100 ')


def test_many_at_a_time_get_their_own_answers(running, students):
  expected = students['table'].predict(TABLE).probs

  def one(k):
    return running.predict('table', [TABLE[k].tolist()])[2]['predictions'][0]['probabilities']

  with concurrent.futures.ThreadPoolExecutor(16) as threads:
    found = list(threads.map(one, range(len(TABLE))))
  np.testing.assert_allclose(found, expected, atol=1e-6)


def test_health_and_metrics(running):
  assert running.request('GET', '/healthz')[2] == {'status': 'ready'}
  running.predict('table', ROW)
  status, headers, text = running.request('GET', '/metrics')
  text = text.decode()
  assert headers['content-type'].startswith('text/plain; version=0.0.4')
  assert 'ensdistill_requests_total{route="predict",model="table",status="200"}' in text
  assert 'ensdistill_request_seconds_count{route="predict",model="table"}' in text
  assert 'ensdistill_batch_rows_bucket{model="table",le="1"}' in text
  assert 'ensdistill_queue_rows{model="table"} 0' in text


def test_files_of_the_page(running):
  for path in pages.FILES:
    status, headers, content = running.request('GET', path)
    assert status == 200 and content and "default-src 'none'" in headers['content-security-policy']
    known = {'if-none-match': f'W/{headers["etag"]}, "other"'}
    status, again, content = running.request('GET', path, headers=known)
    assert (status, content, again['etag']) == (304, b'', headers['etag'])
    assert running.request('GET', path, headers={'if-none-match': '"other'})[0] == 200


def test_the_page_names_no_other_server(running):
  for path in pages.FILES:
    text = running.request('GET', path)[2].decode()
    assert not re.search('(https?:)?//[a-z]', text.replace('http://www.w3.org/2000/svg', ''))
    assert not re.search('["\'`(]/[a-z]', text)  # a proxy may serve the page under a prefix


def test_a_student_that_fails_is_an_error_of_the_server(running, monkeypatch):
  def broken(*arguments, **settings):
    raise RuntimeError('broken')

  monkeypatch.setattr(type(running.service.students['table']), 'predict', broken)
  status, _, found = running.predict('table', ROW)
  assert status == 500 and found == {'error': 'the request failed: the log has the cause'}
  status, headers, found = running.request('GET', '/healthz')
  assert (status, found) == (503, {'status': 'failing', 'model': 'table'})
  assert int(headers['retry-after']) >= 1
  monkeypatch.undo()
  assert running.request('GET', '/healthz')[0] == 200  # it has tried again
  assert running.predict('table', ROW)[0] == 200


def test_more_images_than_threads_can_read_are_refused(running, monkeypatch):
  before = requests.read

  def slow(*arguments):
    time.sleep(0.2)
    return before(*arguments)

  monkeypatch.setattr(requests, 'read', slow)
  monkeypatch.setitem(vars(running.limits), 'queue', 4)
  body = png(np.zeros((8, 8), np.uint8))
  with concurrent.futures.ThreadPoolExecutor(16) as threads:
    found = list(threads.map(lambda _: post(running, 'digits', body, 'image/png'), range(16)))
  statuses = [status for status, _, _ in found]
  assert set(statuses) == {200, 503} and statuses.count(200) >= 4
  full = next(headers for status, headers, _ in found if status == 503)
  assert int(full['retry-after']) >= 1
  assert post(running, 'digits', body, 'image/png')[0] == 200


def test_beyond_the_queue_and_beyond_the_time(students, monkeypatch):
  with servers.Running([('table', students['table'])], queue=4, timeout_s=1) as own:
    hosted = type(own.service.students['table'])
    before = hosted.predict

    def slow(*arguments):
      time.sleep(1.5)
      return before(*arguments)

    monkeypatch.setattr(hosted, 'predict', slow)
    with concurrent.futures.ThreadPoolExecutor(12) as threads:
      found = list(threads.map(lambda _: own.predict('table', ROW), range(12)))
    statuses = [status for status, _, _ in found]
    assert set(statuses) == {503, 504}
    full = next(headers for status, headers, _ in found if status == 503)
    assert int(full['retry-after']) >= 1
    monkeypatch.undo()
    time.sleep(2)
    assert own.predict('table', ROW)[0] == 200


def test_an_answer_of_too_many_numbers_is_refused(running, monkeypatch):
  monkeypatch.setattr(app, 'VALUES', 10)
  status, _, found = running.predict('table', ROW * 9)
  assert status == 413 and 'more than 10 numbers: send fewer rows' in found['error']
