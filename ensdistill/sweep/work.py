"""Work through a queue: every job is a process of its own, so that a failure ends only that job."""

import contextlib
import functools
import os
import pathlib
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from typing import IO, NamedTuple

from ensdistill.processes import joining
from ensdistill.sweep import records
from ensdistill.sweep.jobs import Job
from ensdistill.sweep.queue import KILLS, Queue
from ensdistill.sweep.slots import Slot

GRACE = 120.0  # seconds that a stopped run has to save its state
STOPPED = (130, 143, -signal.SIGINT, -signal.SIGTERM)  # exit codes of a run that was stopped
_POLL = 0.1


class _Running(NamedTuple):
  job: Job
  process: subprocess.Popen
  claim: IO
  began: float


class Outcome(NamedTuple):
  """Why work ended."""

  signal: int | None = None  # that stopped it
  out_of_time: bool = False


class Worker:
  """Starts the jobs of a queue in these slots, and records how they end.

  command: the command line of a job. record: (job, seconds of all attempts) -> the record of a
  finished run. describe: (job, record) -> a line about it.
  """

  def __init__(
    self,
    queue: Queue,
    slots: Sequence[Slot],
    *,
    command: Callable[[Job], Sequence[str]],
    record: Callable[[Job, float], dict],
    describe: Callable[[Job, dict], str],
    say: Callable[[str], None],
  ):
    self.queue, self.slots, self.say = queue, slots, say
    self.command, self.record, self.describe = command, record, describe
    self.running: dict[int, _Running] = {}  # {number of the slot: its run}
    self.tried: set[Job] = set()
    self.killed: set[Job] = set()
    self.stop: int | None = None

  def work(self, seconds: float | None = None) -> Outcome:
    """Run what is left; stop at SIGINT, SIGTERM, or after `seconds`. The next call continues."""
    end = None if seconds is None else time.monotonic() + seconds
    with self._signals():
      while True:
        self._reap()
        late = end is not None and time.monotonic() >= end
        if self.stop or late:
          self._end_all()
          return Outcome(self.stop, late)
        self._fill()
        if not self.running:
          return Outcome()
        time.sleep(_POLL)

  @contextlib.contextmanager
  def _signals(self) -> Iterator[None]:
    """Note SIGINT and SIGTERM; a second one kills the runs."""

    def note(number, frame):
      del frame
      if self.stop:
        self._kill()
      self.stop = number

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
      yield
    finally:
      for running in self.running.values():  # an error of our own: leave no run behind
        running.process.terminate()
      for number, handler in before.items():
        signal.signal(number, handler)

  def _fill(self) -> None:
    """Start jobs in the free slots."""
    for number, slot in enumerate(self.slots):
      while number not in self.running:
        job = self._next()
        if job is None:
          return
        self.tried.add(job)
        claim = self.queue.claim(job)
        if claim is None:
          continue
        if self.queue.is_done(job):
          claim.close()
          continue
        self.running[number] = self._start(job, slot, claim)

  def _next(self) -> Job | None:
    """Return the next job, preferably one whose teacher no running job may be training."""
    left = [
      job
      for job in self.queue.jobs
      if job not in self.tried and not self.queue.is_done(job) and not self.queue.failure(job)
    ]
    busy = {(r.job.kind.ensemble, r.job.teacher) for r in self.running.values()}
    free = (job for job in left if (job.kind.ensemble, job.teacher) not in busy)
    return next(free, left[0] if left else None)

  def _start(self, job: Job, slot: Slot, claim: IO) -> _Running:
    """Start the run of a job; it inherits the claim, and so holds it if the sweep is killed."""
    source = str(pathlib.Path(__file__).parent.parent.parent)
    path = os.pathsep.join(filter(None, [source, os.environ.get('PYTHONPATH')]))
    cores = functools.partial(os.sched_setaffinity, 0, slot.cores) if slot.cores else None
    with open(self.queue.log(job), 'ab') as log:
      process = subprocess.Popen(
        self.command(job),
        env=os.environ | slot.environment | {'PYTHONPATH': path, joining.LONE: '1'},
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        pass_fds=[claim.fileno()],
        start_new_session=True,  # Ctrl-C reaches the sweep alone, which stops its runs
        preexec_fn=cores,
      )
    where = f' ({slot.name})' if slot.name else ''
    self.say(f'starts {job.title}{where}')
    return _Running(job, process, claim, time.monotonic())

  def _reap(self) -> None:
    for number, running in list(self.running.items()):
      if running.process.poll() is not None:
        del self.running[number]
        self._ended(running)

  def _ended(self, running: _Running) -> None:
    """Record how a run ended."""
    job, code = running.job, running.process.returncode
    seconds = time.monotonic() - running.began
    stopped = code in STOPPED or (code == -signal.SIGKILL and job in self.killed)
    with running.claim:
      reason = None
      if code == 0:
        reason = self._record(job, self.queue.seconds(job) + seconds)
      elif not stopped and code < 0 and self.queue.kills(job) + 1 < KILLS:
        self.say(f'{job.title}: killed by signal {-code}; the next start continues it')
      elif code < 0 and not stopped:
        reason = f'killed by signal {-code}, {KILLS} times'
      elif not stopped:
        reason = last_line(self.queue.log(job)) or f'exit code {code}'
      self.queue.ended(job, seconds, abs(code) if stopped else code, reason)
    if reason:
      self.say(f'failed: {job.title}: {reason} (see {self.queue.log(job)})')
    elif stopped:
      self.say(f'stopped: {job.title}')

  def _record(self, job: Job, seconds: float) -> str | None:
    """Write the record of a finished run; return the reason if that fails."""
    try:
      record = self.record(job, seconds)
    except (OSError, ValueError, KeyError) as error:
      return f'no record of the run: {error!r}'
    records.write(self.queue.result(job), record)
    self.say(self.describe(job, record))
    return None

  def _end_all(self) -> None:
    """Stop all runs and wait for them; a run that does not end in time is killed."""
    for running in self.running.values():
      running.process.terminate()
    end = time.monotonic() + GRACE
    while self.running:
      if time.monotonic() > end:
        self._kill()
      self._reap()
      time.sleep(_POLL)

  def _kill(self) -> None:
    for running in list(self.running.values()):
      self.killed.add(running.job)
      running.process.kill()


def last_line(path: pathlib.Path) -> str:
  """Return the last line of a log, the message of a run that failed."""
  try:
    lines = path.read_text(errors='replace').split('\n')
  except OSError:
    return ''
  filled = [line.strip() for line in lines if line.strip()]
  return filled[-1].removeprefix('ensdistill: ')[:400] if filled else ''
