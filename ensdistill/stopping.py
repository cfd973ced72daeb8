"""Stops on request: SIGTERM and SIGINT set a flag, and long work looks at it.

No handler raises an exception, because JAX swallows exceptions inside its callbacks, and Python
delays handlers while the main thread is in compiled code. A thread reads the signals instead, so
the flag is set at once, and a second SIGINT ends the process even during a compilation.

Only commands listen to signals; as a library the package changes no handler.

Processes that share a run stop together. A signal to one of them is told to all, and they look at
it together: `check_together` stops them at the same place, while `check` looks only where a process
works by itself.
"""

import contextlib
import os
import signal
import socket
import threading
from collections.abc import Iterator

from ensdistill import processes
from ensdistill.processes import ending
from ensdistill.processes.group import State

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


def asked() -> int:
  """Return the signal that asked this process, or one that shares its run, to stop; 0 if none."""
  processes.beat()
  return _Asked.number or ending.told_stop()


def requested() -> bool:
  """Return whether the process was asked to stop, and may stop here by itself."""
  return asked() != 0 and (processes.alone() or not processes.shared())


def check(saved: str = '') -> None:
  """Raise Stopped if the process was asked to stop; `saved` says what was saved.

  Where several processes share a run, only one that works alone stops here.
  """
  if requested():
    raise Stopped(asked(), saved)


def check_together(saved: str = '') -> None:
  """Raise Stopped in all processes of the run if one was asked to stop; all of them must call."""
  number = processes.agreed(asked, 'check')
  if number:
    raise Stopped(number, saved)


def tell() -> None:
  """Tell the processes that share the run of a signal that came before this one joined them."""
  if _Asked.number:
    ending.tell_stop(_Asked.number)


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
        ending.tell_stop(number)
        if State.joining:  # inside a call of XLA that waits for minutes
          _say('ensdistill: stopped while it waited for the other processes')
          os._exit(_EXIT + number)
        interrupts += number == signal.SIGINT
        if interrupts > 1:
          _say('\nensdistill: stopped at once; the same command continues from what was saved')
          os._exit(_EXIT + signal.SIGINT)
        if number == signal.SIGINT and os.isatty(2):
          _say('\nensdistill: stopping (Ctrl-C again: at once)')


def _say(text: str) -> None:
  with contextlib.suppress(OSError):
    os.write(2, f'{text}\n'.encode())
