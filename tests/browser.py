"""A page in a headless Chromium, driven by its DevTools protocol; the standard library alone.

with browser.opened(url, width=360, dark=True) as page:
  page.evaluate('document.title')
  assert not page.console and not page.requests
"""

import base64
import contextlib
import json
import os
import pathlib
import shutil
import socket
import struct
import subprocess
import tempfile
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator

NAMES = 'chromium', 'chromium-browser', 'google-chrome', 'chrome'
CHROMIUM = next(filter(None, map(shutil.which, NAMES)), None)
SECONDS = 60


class WebSocket:
  """A client of one WebSocket: texts in both directions."""

  def __init__(self, url: str):
    parts = urllib.parse.urlsplit(url)
    host, port = parts.hostname or '', parts.port or 80
    self._socket = socket.create_connection((host, port), timeout=SECONDS)
    key = base64.b64encode(os.urandom(16)).decode()
    lines = (
      f'GET {parts.path} HTTP/1.1',
      f'Host: {host}:{port}',
      'Upgrade: websocket',
      'Connection: Upgrade',
      f'Sec-WebSocket-Key: {key}',
      'Sec-WebSocket-Version: 13',
    )
    self._socket.sendall('\r\n'.join([*lines, '', '']).encode())
    self._buffer = b''
    while b'\r\n\r\n' not in self._buffer:
      self._receive()
    head, _, self._buffer = self._buffer.partition(b'\r\n\r\n')
    assert b' 101 ' in head.splitlines()[0], head

  def _receive(self):
    found = self._socket.recv(1 << 16)
    if not found:
      raise ConnectionError('the browser closed the connection')
    self._buffer += found

  def _take(self, size: int) -> bytes:
    while len(self._buffer) < size:
      self._receive()
    found, self._buffer = self._buffer[:size], self._buffer[size:]
    return found

  def send(self, text: str):
    data = text.encode()
    size = len(data)
    if size < 126:
      head = struct.pack('!BB', 0x81, 0x80 | size)
    elif size < 1 << 16:
      head = struct.pack('!BBH', 0x81, 0x80 | 126, size)
    else:
      head = struct.pack('!BBQ', 0x81, 0x80 | 127, size)
    self._socket.sendall(head + bytes(4) + data)  # a mask of zeros changes nothing

  def receive(self, seconds: float = SECONDS) -> str:
    """Return the next text; raise TimeoutError after so many seconds."""
    self._socket.settimeout(seconds)
    text = b''
    while True:
      first, second = self._take(2)
      size = second & 0x7F
      if size == 126:
        (size,) = struct.unpack('!H', self._take(2))
      elif size == 127:
        (size,) = struct.unpack('!Q', self._take(8))
      data = self._take(size)
      if first & 0x0F in (0, 1):
        text += data
        if first & 0x80:
          return text.decode()

  def close(self):
    self._socket.close()


class Page:
  """One open page: what it logs and asks for is collected from before it loads."""

  def __init__(self, target: WebSocket):
    self._target, self._number = target, 0
    self.console: list[str] = []  # messages, errors and exceptions
    self.requests: list[str] = []  # of the network: neither data: nor the page itself
    self._loaded = False
    for domain in ('Page', 'Runtime', 'Log', 'Network'):
      self.call(f'{domain}.enable')

  def call(self, method: str, **params) -> dict:
    """Return the answer to one call of the protocol."""
    self._number += 1
    self._target.send(json.dumps({'id': self._number, 'method': method, 'params': params}))
    while True:
      message = json.loads(self._target.receive())
      if message.get('id') == self._number:
        if 'error' in message:
          raise RuntimeError(f'{method}: {message["error"]}')
        return message['result']
      self._note(message)

  def _note(self, message: dict):
    params, method = message.get('params', {}), message.get('method')
    if method == 'Page.loadEventFired':
      self._loaded = True
    elif method == 'Runtime.consoleAPICalled':
      words = [str(a.get('value', a.get('description'))) for a in params['args']]
      self.console.append(f'{params["type"]}: {" ".join(words)}')
    elif method == 'Runtime.exceptionThrown':
      self.console.append(json.dumps(params['exceptionDetails'])[:500])
    elif method == 'Log.entryAdded':
      self.console.append(f'{params["entry"]["level"]}: {params["entry"]["text"]}')
    elif method == 'Network.requestWillBeSent':
      url = params['request']['url']
      if not url.startswith(('data:', 'blob:')):
        self.requests.append(url)

  def emulate(self, width: int = 1000, height: int = 800, dark: bool = False):
    """Set the size of the window, and whether a dark page is preferred."""
    metrics = {'width': width, 'height': height, 'deviceScaleFactor': 1, 'mobile': False}
    self.call('Emulation.setDeviceMetricsOverride', **metrics)
    feature = {'name': 'prefers-color-scheme', 'value': 'dark' if dark else 'light'}
    self.call('Emulation.setEmulatedMedia', features=[feature])

  def open(self, url: str):
    """Load a page and wait for it."""
    self._loaded = False
    self.call('Page.navigate', url=url)
    began = time.monotonic()
    while not self._loaded:
      if time.monotonic() - began > SECONDS:
        raise TimeoutError(f'{url} did not load in {SECONDS} seconds')
      self._note(json.loads(self._target.receive()))

  def evaluate(self, expression: str):
    """Return the value of an expression of JavaScript; promises are awaited."""
    settings = {'returnByValue': True, 'awaitPromise': True}
    found = self.call('Runtime.evaluate', expression=expression, **settings)
    if 'exceptionDetails' in found:
      raise RuntimeError(json.dumps(found['exceptionDetails'])[:1000])
    return found['result'].get('value')

  def wait_for(self, expression: str, seconds: float = 20):
    """Wait until an expression is true."""
    began = time.monotonic()
    while not self.evaluate(expression):
      if time.monotonic() - began > seconds:
        raise TimeoutError(f'{expression} was not true within {seconds} seconds')
      time.sleep(0.05)

  def screenshot(self, path: str | pathlib.Path, whole: bool = True):
    """Write a PNG of the page."""
    found = self.call('Page.captureScreenshot', captureBeyondViewport=whole, format='png')
    pathlib.Path(path).write_bytes(base64.b64decode(found['data']))


@contextlib.contextmanager
def started() -> Iterator[Page]:
  """Start a browser; yield its page, which is empty."""
  assert CHROMIUM, 'no chromium is installed'
  folder = tempfile.mkdtemp(prefix='browser-')
  flags = ['--headless', '--no-sandbox', '--disable-gpu', '--no-first-run', '--disable-extensions']
  flags += ['--disable-background-networking', '--disable-dev-shm-usage', '--hide-scrollbars']
  flags += [f'--user-data-dir={folder}', '--remote-debugging-port=0', '--remote-allow-origins=*']
  with open(pathlib.Path(folder, 'log'), 'wb') as log:
    process = subprocess.Popen([CHROMIUM, *flags, 'about:blank'], stdout=log, stderr=log)
  target = None
  try:
    target = WebSocket(_target(folder, process))
    yield Page(target)
  finally:
    if target:
      target.close()
    process.terminate()
    process.wait(SECONDS)
    shutil.rmtree(folder, ignore_errors=True)


def _target(folder: str, process) -> str:
  """Return the address of the browser's page, once it listens."""
  path, began = pathlib.Path(folder, 'DevToolsActivePort'), time.monotonic()
  while time.monotonic() - began < SECONDS:
    assert process.poll() is None, pathlib.Path(folder, 'log').read_text()[-2000:]
    if path.exists() and path.read_text().count('\n'):
      port = path.read_text().split()[0]
      with contextlib.suppress(OSError):
        with urllib.request.urlopen(f'http://127.0.0.1:{port}/json/list', timeout=5) as answer:
          pages = [page for page in json.load(answer) if page['type'] == 'page']
        if pages:
          return pages[0]['webSocketDebuggerUrl']
    time.sleep(0.05)
  raise TimeoutError('the browser did not start')


@contextlib.contextmanager
def opened(url: str, **emulated) -> Iterator[Page]:
  """Open one page in a browser of its own; for `emulated` see Page.emulate."""
  with started() as page:
    page.emulate(**emulated)
    page.open(url)
    yield page


# An expression: texts whose colour has too little contrast with what lies behind them (WCAG AA).
LOW_CONTRAST = """
(() => {
  const canvas = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
  const rgb = colour => {
    canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
    return Array.from(canvas.getImageData(0, 0, 1, 1).data);
  };
  const over = (top, below) => {
    const a = top[3] / 255;
    return [0, 1, 2].map(i => top[i] * a + below[i] * (1 - a)).concat(255);
  };
  const light = c => {
    const [r, g, b] = c.map(v => v / 255).map(v => v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4);
    return .2126 * r + .7152 * g + .0722 * b;
  };
  const behind = element => {
    const layers = [];
    for (let e = element; e; e = e.parentElement) {
      layers.push(rgb(getComputedStyle(e).backgroundColor));
      if (layers[layers.length - 1][3] == 255) break;
    }
    const dark = matchMedia('(prefers-color-scheme: dark)').matches;
    return layers.reverse().reduce((below, top) => over(top, below), dark ? [18, 18, 18, 255] : [255, 255, 255, 255]);
  };
  const found = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const node = walker.currentNode, element = node.parentElement;
    if (!node.textContent.trim() || !element.getClientRects().length) continue;
    const style = getComputedStyle(element);
    const back = behind(element), front = over(rgb(style.color), back);
    const [a, b] = [light(front), light(back)].sort((x, y) => y - x);
    const ratio = (a + .05) / (b + .05);
    const size = parseFloat(style.fontSize), large = size >= 24 || size >= 18.66 && style.fontWeight >= 700;
    if (ratio < (large ? 3 : 4.5)) found.push(`${node.textContent.trim().slice(0, 40)}: ${ratio.toFixed(2)}`);
  }
  return found;
})()
"""  # noqa: E501
# An expression: how many pixels the page is wider than its window.
TOO_WIDE = 'document.documentElement.scrollWidth - document.documentElement.clientWidth'
