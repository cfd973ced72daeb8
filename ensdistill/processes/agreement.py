"""Decisions of processes that share a run: the first makes them, or each tells its own."""

import builtins
import contextlib
import json
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any

from ensdistill.processes.group import State, first


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
