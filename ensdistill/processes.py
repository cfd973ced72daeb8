"""Several processes as one run: they agree on every decision, and end together.

The engine is jax.distributed. Its coordination service, in the first process, holds what processes
tell each other, as JSON under keys. A lone process joins nothing, and every function here is then
trivial. `joining.py` forms the group, `watching.py` notices when one of its processes dies.
"""

import builtins
import contextlib
import json
import os
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

ROOT = 'ensdistill'  # of all keys
_WAIT = 10_000  # milliseconds of one attempt to read a key
_BLOCK = 512  # agreements after which the keys of the last ones are removed
_OF_A_COLLECTIVE = re.compile(
  r'Gloo|NCCL|\b(UNKNOWN|INTERNAL|UNAVAILABLE|ABORTED|CANCELLED|DEADLINE_EXCEEDED): '
)
_ACKNOWLEDGED = 5.0  # most seconds that one process waits for the line, or the reading, of another


class Group:
  """The processes of a run, as one of them sees them.

  client: of the coordination service.
  number: of this process.
  count: of all of them.
  heartbeat: seconds without a sign of life after which a process is dead.
  """

  def __init__(self, client: Any, number: int, count: int, heartbeat: float):
    self.client, self.number, self.count, self.heartbeat = client, number, count, heartbeat
    self.hellos: list[dict] = []  # host, pid, cores and devices of every process
    self.agreements = 0
    self.alone = False  # the first process works alone, and the others wait for its answer
    self.separate = False  # every process works by itself for now
    self.ending = False  # a process that falls silent now has ended, not died
    self.stop = 0  # the signal that another process was sent
    self.last_words = threading.Lock()

  def name(self, number: int) -> str:
    """Return a process in words."""
    words = f'process {number} of {self.count}'
    if not self.hellos:
      return words
    return f'{words} on {self.hellos[number]["host"]} (pid {self.hellos[number]["pid"]})'

  def next_key(self, kind: str) -> str:
    """Return the key of the next agreement; keys that all processes have read are removed."""
    self.agreements += 1
    block, place = divmod(self.agreements, _BLOCK)
    if not place:
      self.set(f'block/{block}/{self.number}', '')
      if self.number == 0:
        for number in range(self.count):
          self.wait(f'block/{block}/{number}')
        for old in ('agreed', 'each', 'block'):
          self.client.key_value_delete(f'{ROOT}/{old}/{block - 1}/')
    return f'{kind}/{block}/{self.agreements}'

  def get(self, key: str) -> str | None:
    """Return the value of a key, or None."""
    import jax

    try:
      return self.client.key_value_try_get(f'{ROOT}/{key}')
    except jax.errors.JaxRuntimeError as error:
      if str(error).startswith('NOT_FOUND'):
        return None
      raise

  def set(self, key: str, value: str, overwrite: bool = False) -> None:
    """Store a value for all processes."""
    self.client.key_value_set(f'{ROOT}/{key}', value, allow_overwrite=overwrite)

  def wait(self, key: str, other: str = '') -> str:
    """Return the value of a key once there is one.

    other: a key that only a process at another kind of agreement sets; it would never set this one.
    """
    import jax

    while True:
      beat()
      try:
        return self.client.blocking_key_value_get(f'{ROOT}/{key}', _WAIT)
      except jax.errors.JaxRuntimeError as error:
        if not str(error).startswith('DEADLINE_EXCEEDED'):
          await_verdict()
          raise
        if other and self.get(other):
          raise RuntimeError(f'waits for {key!r}, while another process is at {other!r}') from None


class State:
  """What this process is part of."""

  group: Group | None = None  # None: it is alone
  joining = False  # it waits for the others to start
  beat = time.monotonic()  # of the last progress


def shared() -> bool:
  """Return whether several processes share this run."""
  return State.group is not None


def count() -> int:
  """Return the number of processes of this run."""
  return State.group.count if State.group else 1


def first() -> bool:
  """Return whether this process is the one that writes: the first, or the only one."""
  return State.group is None or State.group.number == 0


def alone() -> bool:
  """Return whether the others wait for this process, so that it may only use its own devices."""
  return State.group is not None and State.group.alone


def hosts() -> int:
  """Return the number of machines that this run has."""
  return len({hello['host'] for hello in State.group.hellos}) if State.group else 1


def host(number: int) -> str:
  """Return the machine of a process."""
  return State.group.hellos[number]['host'] if State.group else 'this host'


def cores() -> int:
  """Return the number of cores for this process: those of processes on its host are shared."""
  usable = usable_cores()
  if State.group is None or not State.group.hellos:
    return len(usable)
  here = State.group.hellos[State.group.number]['host']
  sharing = [h for h in State.group.hellos if h['host'] == here and h['cores'] == usable]
  return max(1, len(usable) // len(sharing)) if sharing else len(usable)


def usable_cores() -> list[int]:
  """Return the cores that the system lets this process use."""
  every = range(os.cpu_count() or 1)
  return sorted(os.sched_getaffinity(0) if hasattr(os, 'sched_getaffinity') else every)


def beat() -> None:
  """Note progress, for the watchdog."""
  State.beat = time.monotonic()


def agreed(function: Callable[[], Any], what: str = '') -> Any:
  """Return function() of the first process in all of them; its error is raised in all.

  Every process must call it at the same point. The result must be of JSON types. The others wait,
  for as long as it takes. Within the function, a further call is a plain one.
  what: names the point, so that processes which are at different ones say so instead of waiting.
  """
  group = State.group
  if group is None or group.alone or group.separate:
    return function()
  key = group.next_key('agreed')
  if group.number:
    answer = json.loads(group.wait(key, f'{key.replace("agreed", "each")}/{0:06d}'))
    if answer['what'] != what:
      raise RuntimeError(f'at {what!r}, while process 0 is at {answer["what"]!r}')
    if 'error' in answer:
      error = _error_of(answer['error'])
      error.of_first = True  # type: ignore[attr-defined]
      raise error
    return answer['value']
  group.alone = True
  try:
    text = json.dumps({'what': what, 'value': function()})
  except BaseException as error:
    group.set(key, json.dumps({'what': what, 'error': _as_json(error)}))
    raise
  finally:
    group.alone = False
  group.set(key, text)
  return json.loads(text)['value']


def by_first(function: Callable[[], Any]) -> Any:
  """Run function() in the first process, while the others wait; they get None as its result."""
  found = []

  def run() -> None:
    found.append(function())

  agreed(run, 'first')
  return found[0] if found else None


@contextlib.contextmanager
def separately() -> Iterator[None]:
  """Work without the other processes: `agreed` and `each` inside are plain calls.

  So what fails in one process, such as reading a file, leaves no other one waiting.
  """
  group = State.group
  if group is None or group.separate:
    yield
    return
  group.separate = True
  try:
    yield
  finally:
    group.separate = False


def each(value: Any, what: str) -> list:
  """Return the values of all processes, in their order; all must call it at the same point."""
  group = State.group
  if group is None or group.alone or group.separate:
    return [value]
  key = group.next_key('each')
  group.set(f'{key}/{group.number:06d}', json.dumps([what, value]))
  other = key.replace('each', 'agreed')
  found = [json.loads(group.wait(f'{key}/{number:06d}', other)) for number in range(group.count)]
  for number, (theirs, _) in enumerate(found):
    if theirs != what:
      raise RuntimeError(f'at {what!r}, while process {number} is at {theirs!r}')
  return [value for _, value in found]


def in_turn(function: Callable[[], Any]) -> Any:
  """Return function() of this process, which runs when the first process has run it."""
  result = function() if first() else None
  each(None, 'turn')
  return result if first() else function()


def locked(lock: contextlib.AbstractContextManager) -> contextlib.AbstractContextManager:
  """Hold a lock in the first process; the others go on once it does."""
  group = State.group
  return lock if group is None or group.alone or group.separate else _locked(lock)


@contextlib.contextmanager
def _locked(lock: contextlib.AbstractContextManager) -> Iterator[None]:
  with contextlib.ExitStack() as stack:

    def enter() -> None:
      stack.enter_context(lock)

    agreed(enter, 'lock')
    yield
    each(None, 'unlock')  # before the first one lets another run in


def _as_json(error: BaseException) -> dict:
  """Return an error as JSON: its class by name, those of Python above it, what it was made of."""
  kind = type(error)
  found: dict[str, Any] = {'module': kind.__module__, 'name': kind.__qualname__, 'text': str(error)}
  found['above'] = [base.__name__ for base in kind.__mro__ if base.__module__ == 'builtins']
  arguments = [os.fspath(a) if isinstance(a, os.PathLike) else a for a in error.args]
  if isinstance(error, OSError) and error.filename is not None:
    arguments = [error.errno, error.strerror, os.fspath(error.filename)]
  with contextlib.suppress(TypeError, ValueError):
    json.dumps(arguments)
    found['arguments'] = arguments
  return found


def _error_of(found: dict) -> BaseException:
  """Return the error that `_as_json` describes, which callers handle as they would the original.

  If its class is not at hand, this is the nearest one of Python's that holds its text.
  """
  module = found['module'].split('.')[0]
  kind: Any = sys.modules.get(found['module']) if module in ('builtins', 'ensdistill') else None
  for name in found['name'].split('.'):
    kind = getattr(kind, name, None)
  if isinstance(kind, type) and issubclass(kind, BaseException) and 'arguments' in found:
    with contextlib.suppress(Exception):
      error = kind(*found['arguments'])
      if str(error) == found['text']:
        return error
  for name in found.get('above', ()):
    kind = getattr(builtins, name, None)
    if isinstance(kind, type) and issubclass(kind, Exception) and kind is not Exception:
      with contextlib.suppress(Exception):
        error = kind(found['text'])
        if str(error) == found['text']:
          return error
  return RuntimeError(found['text'])


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


def await_verdict() -> None:
  """Wait until it is known which process died, if one did; this process ends then."""
  group = State.group
  if group:
    time.sleep(2 * group.heartbeat + 2)


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
