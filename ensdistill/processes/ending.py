"""The end of processes that share a run: they stop together, and an error of one ends all."""

import contextlib
import json
import os
import re
import sys
import threading
import time
from typing import NoReturn

from ensdistill.processes.agreement import each
from ensdistill.processes.group import ROOT, Group, State, await_verdict

_OF_A_COLLECTIVE = re.compile(
  r'Gloo|NCCL|\b(UNKNOWN|INTERNAL|UNAVAILABLE|ABORTED|CANCELLED|DEADLINE_EXCEEDED): '
)
_ACKNOWLEDGED = 5.0  # most seconds that one process waits for the line, or the reading, of another


def tell_stop(number: int) -> None:
  """Tell the other processes that this one was sent a signal to stop; callable in any thread."""
  group = State.group
  if group:
    with contextlib.suppress(Exception):  # the service has ended, and so will this process
      group.set('stop', str(number), overwrite=True)


def told_stop() -> int:
  """Return the signal that another process was sent; 0 if none was."""
  return State.group.stop if State.group else 0


def leave(code: int, line: str, error: BaseException | None = None) -> None:
  """End all processes of the run at once, with one line that names this one.

  An error of a collective is most often the death of another process, which ends this one as soon
  as it is known. An error of the first process is told by that process, if it can. A lone process
  does nothing here.
  """
  group = State.group
  if group:
    number = group.number
    if _OF_A_COLLECTIVE.search(line):
      await_verdict()
    if _is_of_first(sys.exception()):
      time.sleep(_ACKNOWLEDGED)
      number = 0
    elif error:  # that nobody expected
      import traceback

      traceback.print_exception(error)
    end(group, number, code, f'{group.name(number)}: {line}')


def _is_of_first(error: BaseException | None) -> bool:
  """Return whether an error, or one that led to it, was raised in the first process."""
  while error:
    if hasattr(error, 'of_first'):
      return True
    error = error.__cause__ or error.__context__
  return False


def end(group: Group, number: int, code: int, line: str, dead: bool = False) -> NoReturn:
  """End this process, with the line of the process that ended first; tell it to the others.

  dead: whether that process, `number`, is dead, so that nobody waits for it.
  """
  _end_soon(code)
  record = {'number': number, 'code': code, 'line': line, 'dead': dead}
  with contextlib.suppress(Exception):  # another one was earlier, or the service is gone
    group.set('ended', json.dumps(record))
  with contextlib.suppress(Exception):
    record = json.loads(group.get('ended') or json.dumps(record))
  follow(group, record)


def follow(group: Group, record: dict, tell: bool = True) -> NoReturn:
  """End this process as the record says; `tell` the first process, so that it can end, too.

  The first process ends last, because the service ends with it.
  """
  group.last_words.acquire()  # and never released: one thread has them
  with contextlib.suppress(OSError, ValueError):
    sys.stdout.flush()
    print(f'ensdistill: {record["line"]}', file=sys.stderr, flush=True)
  code = record['code'] or 1
  if not tell:
    os._exit(code)
  _end_soon(code)
  with contextlib.suppress(Exception):
    group.set(f'seen/{group.number}', '')
    until = time.monotonic() + _ACKNOWLEDGED
    dead = {record['number']} if record['dead'] else set()
    others = set(map(str, {*range(group.count)} - dead))
    while group.number == 0 and time.monotonic() < until:
      seen = {key.rpartition('/')[2] for key, _ in group.client.key_value_dir_get(f'{ROOT}/seen/')}
      if others <= seen:
        break
      time.sleep(0.05)
  os._exit(code)


def _end_soon(code: int) -> None:
  """End this process after a while: a call of a service that has just ended waits for ever."""
  last = threading.Timer(2 * _ACKNOWLEDGED, os._exit, [code or 1])
  last.daemon = True
  last.start()


def finish() -> None:
  """Wait for all processes at the end of the run, and part."""
  group = State.group
  if group is None:
    return
  import jax

  with contextlib.suppress(Exception):
    each(None, 'finish')
    group.ending = True
    jax.distributed.shutdown()
  group.ending = True
  State.group = None
