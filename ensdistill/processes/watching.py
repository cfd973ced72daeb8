"""Watch the processes of a run: a dead one is named and ends all, and so does one that is stuck."""

import contextlib
import faulthandler
import functools
import json
import math
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import NoReturn

from ensdistill import processes
from ensdistill.processes import ending
from ensdistill.processes.group import ROOT, Group, State

_AGAIN = 'the same command continues from the last checkpoint'
_GRACE = 2.0  # seconds
_KEPT: list = []  # C++ calls these handlers at any time
_OF_THE_CALLBACK = b'St8bad_cast'  # std::bad_cast, see `quiet_deaths`


def watch(group: Group) -> None:
  """Start the thread that looks after the other processes."""
  threading.Thread(target=_watch, args=(group,), daemon=True, name='watch').start()


def _watch(group: Group) -> None:
  """Say that this process lives, and end it when another one has ended or died.

  Only the first process looks for signs of life, so the work grows with the number of processes.
  Its own death is noticed by all: the service is gone. Silence is counted in looks, not in seconds,
  so that a pause of this process does not condemn the others.
  """
  looks, unheard = max(10, math.ceil(group.heartbeat)), 0  # at least one a second
  signs: dict[int, tuple[str, int]] = {}  # {number: (its last sign, looks since then)}
  for tick in range(sys.maxsize):
    time.sleep(group.heartbeat / looks)
    if group.ending:
      return
    try:
      group.set(f'alive/{group.number}', str(tick), overwrite=True)
      ended = group.get('ended')
      group.stop = int(group.get('stop') or 0)
      if not ended and group.number == 0:
        _find_dead(group, signs, looks)
      unheard = 0
    except Exception:  # the service does not answer
      unheard += 1
      if unheard >= looks and group.number and not group.ending:
        _first_died(group)
      continue
    if ended:
      ending.follow(group, json.loads(ended))


def _find_dead(group: Group, signs: dict, looks: int) -> None:
  """End the run if a process has given no sign of life for too many looks."""
  found = dict(group.client.key_value_dir_get(f'{ROOT}/alive/'))
  now = {int(key.rpartition('/')[2]): sign for key, sign in found.items()}
  for number in range(1, group.count):
    before, since = signs.get(number, ('', -2 * looks))  # it may not have begun
    sign = now.get(number, '')
    signs[number] = (sign, 0 if sign != before else since + 1)
    if signs[number][1] >= looks:
      silence = f'no sign of life for {group.heartbeat:g} seconds'
      line = f'{group.name(number)} died: {silence}; {_AGAIN}'
      ending.end(group, number, 1, line, dead=True)


def _first_died(group: Group) -> None:
  """End this process; a call of the service that is gone would wait."""
  line = f'{group.name(0)} died: its coordination service is gone; {_AGAIN}'
  ending.follow(group, {'number': 0, 'code': 1, 'line': line}, tell=False)


@contextlib.contextmanager
def quiet_deaths() -> Iterator[None]:
  """Make clients that are made inside end the process as this module does.

  By default XLA aborts the process, with a stack trace, as soon as another one is lost. It has a
  callback for this, but cannot call Python functions as it: this raises a C++ exception that ends
  in std::terminate, whose handler can be one. Where that is not possible, XLA aborts as usual.
  """
  from jax._src.lib import _jax

  make = _jax.get_distributed_runtime_client
  if not _handle_terminate():
    yield
    return
  _jax.get_distributed_runtime_client = functools.partial(make, missed_heartbeat_callback=int)
  try:
    yield
  finally:
    _jax.get_distributed_runtime_client = make


def _handle_terminate() -> bool:
  """Let std::terminate say who died; return whether this system can.

  It is also called for other C++ exceptions that nothing handles. The handler from before, which
  prints what they are and aborts, is then called.
  """
  import ctypes

  handler_type = ctypes.CFUNCTYPE(None)
  try:
    library = ctypes.CDLL('libstdc++.so.6')
    set_handler = library._ZSt13set_terminatePFvvE
    exception_type = getattr(library, '__cxa_current_exception_type')
  except (OSError, AttributeError):
    return False
  set_handler.argtypes, set_handler.restype = [ctypes.c_void_p], ctypes.c_void_p
  exception_type.argtypes, exception_type.restype = [], ctypes.c_void_p
  address = ctypes.sizeof(ctypes.c_void_p)  # of the name in std::type_info, after its table

  @handler_type
  def terminated():
    info = exception_type()
    name = ctypes.c_char_p.from_address(info + address).value if info else b''
    if name == _OF_THE_CALLBACK:
      _told_of_death()
    if before:
      handler_type(before)()
    os.abort()

  before = set_handler(ctypes.cast(terminated, ctypes.c_void_p))
  _KEPT.append(terminated)
  return True


def _told_of_death() -> NoReturn:
  """End this process, which the service told of a death, or has lost."""
  group = State.group
  if group and not group.ending:
    time.sleep(_GRACE)  # if the service lives, `watch` ends the process meanwhile
    if group.number and not _answers(group):
      _first_died(group)
    time.sleep(2 * group.heartbeat)
    ending.end(group, group.number, 1, f'{group.name(group.number)}: another process died')
  if not group:
    line = 'the other processes ended while this one joined them'
    print(f'ensdistill: {line}', file=sys.stderr, flush=True)
  os._exit(1)


def _answers(group: Group) -> bool:
  """Return whether the coordination service answers; a call to a lost host would wait."""
  found = []

  def ask():
    with contextlib.suppress(Exception):
      group.get('ended')
      found.append(True)

  thread = threading.Thread(target=ask, daemon=True)
  thread.start()
  thread.join(_GRACE)
  return bool(found)


class _Dog:
  """The watchdog of this process."""

  over = threading.Event()


def rest() -> None:
  """End the watchdog. Work after the run has no time limit."""
  _Dog.over.set()


def watchdog(minutes: float, end: Callable[[int], None] = os._exit) -> None:
  """Start the thread that ends this process, with all stacks, after minutes without progress."""
  rest()
  over = _Dog.over = threading.Event()
  processes.beat()

  def look():
    while not over.wait(min(5.0, 6 * minutes)):
      group = State.group
      if time.monotonic() - State.beat > 60 * minutes and not (group and group.ending):
        faulthandler.dump_traceback(all_threads=True)
        line = (
          f'no progress for {minutes:g} minutes, the stacks are above; {_AGAIN} '
          '(watchdog_minutes=0 waits for ever)'
        )
        ending.leave(1, line)
        print(f'ensdistill: {line}', file=sys.stderr, flush=True)
        end(1)

  threading.Thread(target=look, daemon=True, name='watchdog').start()
