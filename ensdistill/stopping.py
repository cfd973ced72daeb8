"""Stops on request: SIGTERM and SIGINT set a flag, and long work looks at it.

No handler raises an exception, because JAX swallows exceptions inside its callbacks, and Python
delays handlers while the main thread is in compiled code. A thread reads the signals instead, so
the flag is set at once, and a second SIGINT ends the process even during a compilation.

Only commands listen to signals; as a library the package changes no handler.
"""

import contextlib
import os
import signal
import socket
import threading
from collections.abc import Iterator

SIGNALS = (signal.SIGTERM, signal.SIGINT)
_EXIT = 128  # plus the number of a signal: the exit code of a process that the signal ended


class Stopped(BaseException):
  """The process was asked to stop; `saved` says what was saved.

  Not an Exception, so that handlers of errors, for example around a picture, do not swallow it.
  """

  def __init__(self, number: int, saved: str = ''):
    super().__init__(number, saved)
    self.number, self.saved = number, saved

  @property
  def name(self) -> str:
    """The name of the signal."""
    return signal.Signals(self.number).name

  @property
  def code(self) -> int:
    """The exit code: 143 after SIGTERM, 130 after SIGINT."""
    return _EXIT + self.number


class _Asked:
  """The first signal that asked the process to stop; 0 if none did."""

  number = 0


def requested() -> bool:
  """Return whether the process was asked to stop.

  The only place that knows: where several processes share a run, they agree here.
  """
  return _Asked.number != 0


def check(saved: str = '') -> None:
  """Raise Stopped if the process was asked to stop; `saved` says what was saved."""
  if requested():
    raise Stopped(_Asked.number, saved)


@contextlib.contextmanager
def listening() -> Iterator[None]:
  """Listen to SIGTERM and SIGINT inside the block; the handlers from before are restored.

  Outside the main thread, and inside another such block, nothing changes. A signal that the parent
  process made this one ignore, as nohup does, stays ignored.
  """
  ours = [number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
  inside = any(signal.getsignal(number) is _note for number in ours)
  if inside or not ours or threading.current_thread() is not threading.main_thread():
    yield
    return
  reader, writer = socket.socketpair()
  writer.setblocking(False)
  before_fd = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
  before = {number: signal.signal(number, _note) for number in ours}
  _Asked.number = 0
  thread = threading.Thread(target=_watch, args=(reader,), daemon=True)
  thread.start()
  try:
    yield
  finally:
    for number, handler in before.items():
      signal.signal(number, handler)
    signal.set_wakeup_fd(before_fd)
    writer.close()  # ends the thread, which may still read a signal
    thread.join()
    _Asked.number = 0


def _note(number, frame) -> None:
  """Set the flag; the handler of a signal."""
  del frame
  _Asked.number = _Asked.number or number


def _watch(reader: socket.socket) -> None:
  """Set the flag for every signal; end the process at the second SIGINT."""
  interrupts = 0
  with reader:
    while numbers := reader.recv(16):
      for number in numbers:
        if number not in SIGNALS:
          continue
        _note(number, None)
        interrupts += number == signal.SIGINT
        if interrupts > 1:
          _say('\nensdistill: stopped at once; the same command continues from what was saved')
          os._exit(_EXIT + signal.SIGINT)
        if number == signal.SIGINT and os.isatty(2):
          _say('\nensdistill: stopping (Ctrl-C again: at once)')


def _say(text: str) -> None:
  with contextlib.suppress(OSError):
    os.write(2, f'{text}\n'.encode())
