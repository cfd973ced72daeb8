"""The routes of the server, as a Starlette application.

A request is read and checked, its rows wait for a batch, and its answer is JSON. Every error is a
`Refused`: a status of refused.STATUSES and {"error": one line}.
"""

import asyncio
import concurrent.futures
import contextlib
import functools
import json
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.applications import Starlette
from starlette.convertors import StringConvertor, register_url_convertor
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from ensdistill import names
from ensdistill.serving import metrics, openapi, pages, requests
from ensdistill.serving.hosted import Hosted
from ensdistill.serving.limits import VALUES
from ensdistill.serving.refused import Refused
from ensdistill.serving.service import Service

log = logging.getLogger('ensdistill.serving')
HEADERS = {'x-content-type-options': 'nosniff', 'cache-control': 'no-store'}
_DRAIN_SECONDS, _DRAIN_BYTES = 1.0, 2**26  # of a body that is refused
_HEAVY = 2  # threads that read large bodies and write large answers


class _Name(StringConvertor):
  """The name of a student in an address, up to a colon."""

  regex = '[^/:]+'


register_url_convertor('student', _Name())


_encode = json.JSONEncoder(allow_nan=False, separators=(',', ':')).encode


def as_json(content: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
  """Return an answer in strict JSON."""
  return _json(_encode(content), status, headers)


def _json(text: str, status: int = 200, headers: dict[str, str] | None = None) -> Response:
  return Response(text.encode(), status, {**HEADERS, **(headers or {})}, 'application/json')


def _predictions(one: Hosted, rows: list[dict]) -> Response:
  """Return the answer to a request.

  Its rows are written one by one: other threads stand still while one call of the encoder runs.
  """
  about = _encode({'model': one.name, 'classes': one.classes})
  return _json(f'{about[:-1]},"predictions":[{",".join(map(_encode, rows))}]}}')


def _refusal(error: Refused) -> Response:
  return as_json({'error': error.message}, error.status, error.headers)


class App:
  """The answers to requests; `starlette` is the ASGI application."""

  def __init__(self, service: Service, on_ready: Callable[[], None]):
    self._service, self._limits, self._metrics = service, service.limits, service.metrics
    self._on_ready = on_ready
    self._held = 0  # bytes of bodies in memory
    self._away_now = 0  # requests that threads read or write, or that wait for one
    self._heavy = concurrent.futures.ThreadPoolExecutor(_HEAVY, 'bodies')
    self._openapi = openapi.document(list(service.students.values()), service.limits)

  def starlette(self) -> Starlette:
    """Return the application."""
    routes = [
      self._route('/v1/models/{name:student}:predict', self._predict, 'predict', 'POST'),
      self._route('/v1/models/{name:student}', self._model, 'model', 'GET'),
      self._route('/v1/models', self._models, 'models', 'GET'),
      self._route('/healthz', self._health, 'healthz', 'GET'),
      self._route('/metrics', self._metrics_text, 'metrics', 'GET'),
      self._route('/openapi.json', self._document, 'openapi', 'GET'),
    ]
    for address in pages.FILES:
      routes.append(self._route(address, self._page, 'page', 'GET'))
    app = Starlette(
      routes=routes,
      lifespan=self._lifespan,
      exception_handlers={HTTPException: self._unknown, Exception: self._failed},
    )
    app.router.redirect_slashes = False
    return app

  @contextlib.asynccontextmanager
  async def _lifespan(self, app):
    pages.files()
    loop = asyncio.get_running_loop()
    for batcher in self._service.batchers.values():
      batcher.call, batcher.future = loop.call_soon_threadsafe, loop.create_future
    self._service.start(self._on_ready)
    yield
    await asyncio.to_thread(self._service.close)
    self._heavy.shutdown(cancel_futures=True)

  def _route(self, path: str, answer: Callable, route: str, method: str) -> Route:
    """Return a route that counts its requests, and answers a Refused with its status."""

    async def endpoint(request: Request) -> Response:
      began = time.monotonic()
      try:
        response = await answer(request)
      except Refused as error:
        response = _refusal(error)
      except asyncio.CancelledError:  # the time for a graceful end is over
        response = _refusal(Refused(503, 'the server has stopped', retry=5, close=True))
      except ClientDisconnect:  # nobody reads the answer
        response = as_json({'error': 'the client has gone'}, 408, {'connection': 'close'})
      except Exception:
        log.exception('%s failed', route)
        response = as_json({'error': 'the request failed: the log has the cause'}, 500)
      own = {'route': route}
      if (name := request.path_params.get('name')) in self._service.students:
        own['model'] = name
      self._metrics.seconds.add(metrics.labels(**own), time.monotonic() - began)
      self._metrics.requests.add(metrics.labels(**own, status=str(response.status_code)))
      return response

    return Route(path, endpoint, methods=[method])

  async def _unknown(self, request: Request, error: Exception) -> Response:
    """Answer an unknown address or method."""
    assert isinstance(error, HTTPException)
    self._metrics.requests.add(metrics.labels(route='none', status=str(error.status_code)))
    headers = dict(error.headers or {})
    allowed = headers.get('Allow', 'other methods')
    about = {
      404: 'there is nothing at this address: /openapi.json lists what there is',
      405: f'this address takes {allowed}, not {request.method[:20]}',
    }
    message = about.get(error.status_code, str(error.detail))
    return as_json({'error': message}, error.status_code, headers)

  async def _failed(self, request: Request, error: Exception) -> Response:
    return as_json({'error': 'the request failed: the log has the cause'}, 500)

  def _student(self, request: Request) -> Hosted:
    name, known = request.path_params['name'], self._service.students
    if name not in known:
      raise Refused(404, str(names.unknown('student', name[:100], known)))
    return known[name]

  async def _page(self, request: Request) -> Response:
    file = pages.files()[request.scope['path']]
    if file.is_known(request.headers.get('if-none-match', '')):
      return Response(status_code=304, headers=file.headers)
    return Response(file.content, headers=file.headers)

  async def _document(self, request: Request) -> Response:
    return as_json(self._openapi)

  async def _health(self, request: Request) -> Response:
    if not self._service.ready:
      return as_json({'status': 'starting'}, 503, {'retry-after': '1'})
    for one in self._service.students.values():
      if not await self._works(one):
        return as_json({'status': 'failing', 'model': one.name}, 503, {'retry-after': '5'})
    return as_json({'status': 'ready'})

  async def _works(self, one: Hosted) -> bool:
    """Return whether a student predicts; after a batch that failed, try again with one row."""
    batcher = self._service.batchers[one.name]
    if not batcher.failing:
      return True
    try:
      await self._in_time(asyncio.gather(*batcher.submit(one.zeros(1))))
    except Exception:
      return False
    return True

  async def _metrics_text(self, request: Request) -> Response:
    return Response(self._metrics.text(), headers={**HEADERS, 'content-type': metrics.TYPE})

  async def _models(self, request: Request) -> Response:
    return as_json({'models': [self._about(one) for one in self._service.students.values()]})

  async def _model(self, request: Request) -> Response:
    return as_json(self._about(self._student(request)))

  def _about(self, one: Hosted) -> dict[str, Any]:
    limits = {
      'rows': self._limits.max_rows,
      'body_bytes': self._limits.max_body,
      'numbers': VALUES,  # rows × classes of an answer, more with members or quantiles
    }
    return {**one.description, 'ready': self._service.ready, 'limits': limits}

  async def _predict(self, request: Request) -> Response:
    """Answer with the predictions of the rows of a request."""
    one = self._student(request)
    options = one.check(requests.options(request.scope['query_string']))
    encoding = request.headers.get('content-encoding', '')
    kind = requests.content_type(request.headers.get('content-type', ''), one, encoding)
    if not self._service.ready:
      raise Refused(503, 'the server is starting', retry=1, close=True)
    batcher = self._service.batchers[one.name]
    batcher.check()  # before the body is read, so that a refusal costs little
    if self._away_now >= self._limits.queue:
      raise Refused(503, f'{self._away_now} requests wait for a thread: try again later', retry=1)
    async with self._body(request) as body:
      arguments = body, kind, one, options, self._limits.max_rows
      found = await self._away(requests.is_light(kind, body), requests.read, *arguments)
    if one.values(len(found.x), options) > VALUES:
      message = f'the answer has more than {VALUES:,} numbers: send fewer rows, or ask for less'
      raise Refused(413, message)
    if not len(found.x):
      return _predictions(one, [])
    futures = batcher.submit(found.x, members=options.members)
    parts = await self._in_time(asyncio.gather(*futures))
    outside = found.accepted.outside if one.is_table else None
    whole: list[dict] = []
    for part in parts:
      rows = slice(len(whole), len(whole) + part.stop - part.start)
      own = None if outside is None else outside[rows]
      light = one.values(part.stop - part.start, options) <= 256
      whole += await self._away(light, one.answers, part, own, options, rows.start)
    self._count(one, whole)
    light = one.values(len(whole), options) <= 1024
    return await self._away(light, _predictions, one, whole)

  def _count(self, one: Hosted, rows: list[dict]) -> None:
    """Count uncertainties and rows outside the training range, which show a shift of the inputs."""
    for kind in ('total', 'data', 'knowledge'):
      total = sum(row[kind] or 0 for row in rows)
      self._metrics.uncertainty.add(metrics.labels(model=one.name, kind=kind), total)
    outside = sum(row.get('outside', False) for row in rows)
    if outside:
      self._metrics.outside.add(metrics.labels(model=one.name), outside)

  async def _in_time(self, waiting: Awaitable) -> Any:
    """Return the result of a wait; cancel it and refuse the request if it takes too long."""
    try:
      async with asyncio.timeout(self._limits.timeout_s):
        return await waiting
    except TimeoutError:
      raise Refused(504, f'no prediction within {self._limits.timeout_s:g} s') from None

  async def _away(self, light: bool, function: Callable, *arguments):
    """Return function(*arguments), computed in a thread unless it is light."""
    if light:
      return function(*arguments)
    loop = asyncio.get_running_loop()
    self._away_now += 1
    try:
      future = loop.run_in_executor(self._heavy, functools.partial(function, *arguments))
      return await self._in_time(future)
    finally:
      self._away_now -= 1

  @contextlib.asynccontextmanager
  async def _body(self, request: Request):
    """Give the body of a request, whose bytes count as held while it is read and parsed."""
    content, most = bytearray(), self._limits.max_body
    declared = request.headers.get('content-length', '')
    too_large = Refused(
      413, f'the body is larger than the limit of {self._limits.max_body_mb:g} MB', close=True
    )
    try:
      if declared.isdigit() and int(declared[:20]) > most:
        await self._drain(request)
        raise too_large
      async with asyncio.timeout(self._limits.timeout_s):
        async for chunk in request.stream():
          self._held += len(chunk)
          content += chunk
          if len(content) > most:
            break
          if self._held > self._limits.held:
            raise Refused(503, 'too many bodies at a time: try again later', retry=1, close=True)
      if len(content) > most:
        self._held -= len(content)
        content.clear()
        await self._drain(request)
        raise too_large
      yield content
    except TimeoutError:
      raise Refused(
        408, f'the body did not arrive within {self._limits.timeout_s:g} s', close=True
      ) from None
    finally:
      self._held -= len(content)

  async def _drain(self, request: Request) -> None:
    """Read the rest of a body for a short time, so that the client gets the answer."""
    if request.headers.get('expect'):  # the client waits before it sends the body
      return
    size = 0
    with contextlib.suppress(TimeoutError, RuntimeError):
      async with asyncio.timeout(_DRAIN_SECONDS):
        while size < _DRAIN_BYTES:
          message = await request.receive()
          size += len(message.get('body', b''))
          if message['type'] != 'http.request' or not message.get('more_body'):
            return
