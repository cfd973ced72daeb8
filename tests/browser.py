"""Chromium, driven by its DevTools protocol: real clicks, drawing and keys.

https://chromedevtools.github.io/devtools-protocol/
"""

import base64
import contextlib
import json
import os
import pathlib
import shutil
import subprocess
import time

NAMES = 'chromium', 'chromium-browser', 'google-chrome', 'google-chrome-stable', 'chrome'
KEYS = {
  'Tab': 9, 'Enter': 13, ' ': 32, 'ArrowLeft': 37, 'ArrowUp': 38, 'ArrowRight': 39,
  'ArrowDown': 40, 'Delete': 46,
}  # fmt: skip


def executable() -> str | None:
  """Return the browser's path; None where there is none."""
  return os.environ.get('CHROMIUM') or next(filter(None, map(shutil.which, NAMES)), None)


class Browser:
  """A browser without a window; `page` opens a page."""

  def __init__(self, folder: pathlib.Path):
    self._folder = folder
    flags = ['--headless=new', '--no-sandbox', '--disable-gpu', '--hide-scrollbars', '--mute-audio']
    flags += ['--disable-dev-shm-usage', '--no-first-run', '--disable-background-networking']
    flags += ['--disable-component-update', '--disable-sync', '--remote-debugging-port=0']
    command = [executable(), *flags, f'--user-data-dir={folder}', 'about:blank']
    self._process = subprocess.Popen(
      command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    self._closing = contextlib.ExitStack()
    self._socket = self._closing.enter_context(self._connected())
    self._number, self._events = 0, []

  def _connected(self):
    from websockets.sync.client import connect

    file, until = self._folder / 'DevToolsActivePort', time.monotonic() + 60
    while not file.exists() or file.read_text().count('\n') < 1:
      assert time.monotonic() < until and self._process.poll() is None, 'the browser did not start'
      time.sleep(0.05)
    port, path = file.read_text().split('\n')[:2]
    return connect(f'ws://127.0.0.1:{port}{path}', max_size=2**26, open_timeout=60)

  def send(self, method: str, session: str | None = None, **parameters):
    """Return the result of a command; events that arrive before it are kept."""
    self._number += 1
    message = {'id': self._number, 'method': method, 'params': parameters}
    self._socket.send(json.dumps(message | ({'sessionId': session} if session else {})))
    while True:
      found = json.loads(self._socket.recv(timeout=60))
      if found.get('id') == self._number:
        assert 'error' not in found, f'{method}: {found["error"]}'
        return found['result']
      self._events.append(found)

  def events(self, method: str, session: str) -> list[dict]:
    """Return the parameters of all events of a kind so far, of one page."""
    own = (one for one in self._events if one.get('sessionId') == session)
    return [one['params'] for one in own if one.get('method') == method]

  def page(self, address: str, width=1200, height=900, dark=False) -> 'Page':
    """Open a page."""
    target = self.send('Target.createTarget', url='about:blank')['targetId']
    session = self.send('Target.attachToTarget', targetId=target, flatten=True)['sessionId']
    return Page(self, session, target, address, width, height, dark)

  def close(self) -> None:
    """End the browser."""
    self._closing.close()
    self._process.terminate()
    try:
      self._process.wait(20)
    except subprocess.TimeoutExpired:
      self._process.kill()
      self._process.wait(20)


class Page:
  """One page of a browser."""

  def __init__(self, browser, session, target, address: str, width, height, dark):
    self._browser, self._session, self._target = browser, session, target
    for domain in ('Page', 'Runtime', 'Network', 'Log'):
      self._send(f'{domain}.enable')
    self.size(width, height)
    scheme = {'name': 'prefers-color-scheme', 'value': 'dark' if dark else 'light'}
    self._send('Emulation.setEmulatedMedia', features=[scheme])
    self._send('Page.navigate', url=address)
    self.wait('document.readyState === "complete"')

  def _send(self, method: str, **parameters):
    return self._browser.send(method, self._session, **parameters)

  def _events(self, method: str) -> list[dict]:
    self.value('0')  # so that all events so far have arrived
    return self._browser.events(method, self._session)

  def close(self) -> None:
    """Close the page."""
    self._browser.send('Target.closeTarget', targetId=self._target)

  def size(self, width: int, height: int) -> None:
    """Set the size of the window; a narrow one is a phone's."""
    own = {'width': width, 'height': height, 'deviceScaleFactor': 1, 'mobile': width < 600}
    self._send('Emulation.setDeviceMetricsOverride', **own)

  def offline(self, is_offline: bool) -> None:
    """Cut the page off from the network, or connect it again."""
    own = {'latency': 0, 'downloadThroughput': -1, 'uploadThroughput': -1}
    self._send('Network.emulateNetworkConditions', offline=is_offline, **own)

  def value(self, script: str):
    """Return what a script gives; promises are awaited."""
    found = self._send('Runtime.evaluate', expression=script, awaitPromise=True, returnByValue=True)
    assert 'exceptionDetails' not in found, found['exceptionDetails']
    return found['result'].get('value')

  def wait(self, script: str, seconds: float = 30.0):
    """Wait until a script gives something true, and return it."""
    until = time.monotonic() + seconds
    while not (found := self.value(script)):
      assert time.monotonic() < until, f'still not: {script}'
      time.sleep(0.03)
    return found

  def text(self, selector: str) -> str:
    """Return the visible text of an element."""
    return self.value(f'document.querySelector({json.dumps(selector)}).innerText')

  def _box(self, selector: str) -> dict:
    script = f"""(() => {{ const e = document.querySelector({json.dumps(selector)});
      e.scrollIntoView({{block: 'center'}}); const b = e.getBoundingClientRect();
      return {{x: b.x, y: b.y, width: b.width, height: b.height}}; }})()"""
    return self.value(script)

  def _mouse(self, kind: str, x: float, y: float, pressed: bool) -> None:
    own = {'type': kind, 'x': x, 'y': y, 'button': 'left', 'buttons': int(pressed), 'clickCount': 1}
    self._send('Input.dispatchMouseEvent', **own)

  def click(self, selector: str) -> None:
    """Click into the middle of an element."""
    box = self._box(selector)
    x, y = box['x'] + box['width'] / 2, box['y'] + box['height'] / 2
    self._mouse('mouseMoved', x, y, False)
    self._mouse('mousePressed', x, y, True)
    self._mouse('mouseReleased', x, y, False)

  def draw(self, selector: str, points) -> None:
    """Draw a stroke through points, in shares of an element's width and height."""
    box = self._box(selector)
    places = [(box['x'] + x * box['width'], box['y'] + y * box['height']) for x, y in points]
    self._mouse('mouseMoved', *places[0], False)
    self._mouse('mousePressed', *places[0], True)
    for (x0, y0), (x1, y1) in zip(places, places[1:]):
      for step in (0.25, 0.5, 0.75, 1):
        self._mouse('mouseMoved', x0 + step * (x1 - x0), y0 + step * (y1 - y0), True)
    self._mouse('mouseReleased', *places[-1], False)

  def press(self, key: str, times: int = 1, shift: bool = False) -> None:
    """Press a key."""
    text = {'Enter': '\r', ' ': ' '}.get(key, '')
    own = {'key': key, 'code': 'Space' if key == ' ' else key, 'windowsVirtualKeyCode': KEYS[key]}
    own |= {'modifiers': 8 if shift else 0}
    for _ in range(times):
      self._send('Input.dispatchKeyEvent', type='keyDown', text=text, **own)
      self._send('Input.dispatchKeyEvent', type='keyUp', **own)

  def type(self, text: str) -> None:
    """Type text into what has the focus."""
    self._send('Input.insertText', text=text)

  def choose(self, selector: str, path) -> None:
    """Choose a file in an input of files."""
    document = self._send('DOM.getDocument')['root']['nodeId']
    node = self._send('DOM.querySelector', nodeId=document, selector=selector)['nodeId']
    self._send('DOM.setFileInputFiles', nodeId=node, files=[str(path)])

  def focused(self) -> str:
    """Return the id of the element that has the focus."""
    return self.value('document.activeElement.id || document.activeElement.tagName')

  def screenshot(self, path, whole: bool = True) -> None:
    """Write a picture of the page as a PNG file."""
    found = self._send('Page.captureScreenshot', captureBeyondViewport=whole)
    pathlib.Path(path).write_bytes(base64.b64decode(found['data']))

  def problems(self) -> list[str]:
    """Return the errors of scripts and loads, and addresses outside of the server, so far."""
    found = [str(one) for one in self._events('Runtime.exceptionThrown')]
    entries = [one['entry'] for one in self._events('Log.entryAdded')]
    return found + [one['text'] for one in entries if one['level'] == 'error']

  def addresses(self) -> list[str]:
    """Return the addresses that the browser asked for."""
    found = self._events('Network.requestWillBeSent')
    return [one['request']['url'] for one in found]
