"""The start and the end of a service."""

import asyncio
import threading
import time

import servers

from ensdistill.serving import app, hosted, limits, service


def service_of(students, max_batch=8):
  named = hosted.named([('values', 'values', students['values'])])
  return service.Service(named, limits.Limits(max_batch=max_batch))


def test_a_student_that_cannot_predict_ends_the_start(students, monkeypatch):
  def broken(*arguments):
    raise RuntimeError('broken')

  monkeypatch.setattr(hosted.Hosted, 'warm_up', broken)
  own, done = service_of(students), threading.Event()
  own.start(done.set)
  assert done.wait(20) and not own.ready and own.failed == 'RuntimeError: broken'
  own.close()


def test_the_end_during_the_start_waits_for_one_size(students, monkeypatch):
  began, go, sizes = threading.Event(), threading.Event(), []

  def slow(self, size, max_batch):
    sizes.append(size)
    began.set()
    go.wait(20)

  monkeypatch.setattr(hosted.Hosted, 'warm_up', slow)
  own = service_of(students)
  own.start(lambda: None)
  assert began.wait(20)
  threading.Timer(0.2, go.set).start()
  own.close()
  assert sizes == [1] and not own.ready


def test_a_request_that_outlasts_the_end_is_refused(students):
  own = service_of(students)
  own.ready = True
  application, sent = app.App(own, lambda: None).starlette(), []

  async def receive():
    await asyncio.Event().wait()  # the body never comes

  async def send(message):
    sent.append(message)

  async def cut():
    headers = [(b'content-type', b'application/json')]
    scope = {'type': 'http', 'method': 'POST', 'path': '/v1/models/values:predict'}
    scope |= {'query_string': b'', 'headers': headers}
    task = asyncio.create_task(application(scope, receive, send))
    await asyncio.sleep(0)
    task.cancel()
    await task

  asyncio.run(cut())
  assert sent[0]['status'] == 503 and b'the server has stopped' in sent[1]['body']


def test_before_everything_is_compiled_clients_are_told_to_wait(students, monkeypatch):
  go, before = threading.Event(), hosted.Hosted.warm_up

  def slow(*arguments):
    go.wait(20)
    before(*arguments)

  monkeypatch.setattr(hosted.Hosted, 'warm_up', slow)
  running = servers.Running([('values', students['values'])])
  threading.Timer(3, go.set).start()
  with running.starting():
    status, headers, found = running.request('GET', '/healthz')
    assert (status, found) == (503, {'status': 'starting'}) and headers['retry-after'] == '1'
    status, headers, found = running.predict('values', [[45, 1.5, 80]])
    assert status == 503 and 'starting' in found['error'] and headers['retry-after'] == '1'
    assert running.request('GET', '/v1/models/values')[2]['ready'] is False
    go.set()
    until = time.monotonic() + 30
    while running.request('GET', '/healthz')[0] != 200:
      assert time.monotonic() < until
    assert running.predict('values', [[45, 1.5, 80]])[0] == 200
