"""The processes that share a run, as one of them sees them, and what this process is of them."""

import os
import threading
import time
from typing import Any

ROOT = 'ensdistill'  # of all keys
_WAIT = 10_000  # milliseconds of one attempt to read a key
_BLOCK = 512  # agreements after which the keys of the last ones are removed


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


def await_verdict() -> None:
  """Wait until it is known which process died, if one did; this process ends then."""
  group = State.group
  if group:
    time.sleep(2 * group.heartbeat + 2)
