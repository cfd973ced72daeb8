"""The state of a sweep: a folder of small files, which several processes may share.

  results/JOB.json    a finished run (see records.py)
  queue/JOB.json      its attempts, and why it failed
  queue/JOB.lock      held by the process that runs it, and by the run itself
  queue/JOB.log       what the run printed
  runs/JOB/           the folder of the run
  teachers/           the ensembles, shared by all runs

No file holds the path of the folder, so the folder can be moved.
"""

import contextlib
import fcntl
import json
import pathlib
import shutil
import time
from collections.abc import Sequence
from typing import IO

from ensdistill.config import identity
from ensdistill.storage import safe
from ensdistill.sweep import records
from ensdistill.sweep.jobs import Job

DONE, FAILED, RUNNING, LEFT = 'done', 'failed', 'running', 'left'
KILLS = 3  # a run that dies this often by signals that the sweep did not send has failed


class Queue:
  """The jobs of a sweep and the folder of their state."""

  def __init__(self, folder: pathlib.Path, jobs: Sequence[Job]):
    self.folder, self.jobs = folder, list(jobs)

  def result(self, job: Job) -> pathlib.Path:
    """Return the file of a finished run."""
    return self.folder / 'results' / f'{job.name}.json'

  def run_folder(self, job: Job) -> pathlib.Path:
    """Return the folder of a run."""
    return self.folder / 'runs' / job.name

  def log(self, job: Job) -> pathlib.Path:
    """Return the file of what a run printed."""
    return self._file(job, 'log')

  @property
  def teachers(self) -> pathlib.Path:
    """The folder of the ensembles."""
    return self.folder / 'teachers'

  def check(self) -> None:
    """Raise ValueError if a finished run has other settings than its job."""
    for job in self.jobs:
      if self.is_done(job):
        records.check(self.result(job), job)

  def is_done(self, job: Job) -> bool:
    """Return whether a job is finished."""
    return self.result(job).exists()

  def failure(self, job: Job) -> str | None:
    """Return why a job failed; None if it did not."""
    return self._state(job).get('failed')

  def seconds(self, job: Job) -> float:
    """Return the seconds of all attempts."""
    return sum(attempt['seconds'] for attempt in self._state(job)['attempts'])

  def states(self) -> dict[Job, str]:
    """Return {job: DONE, FAILED, RUNNING or LEFT}."""
    return {job: self._of(job) for job in self.jobs}

  def _of(self, job: Job) -> str:
    if self.is_done(job):
      return DONE
    if self._locked(job):
      return RUNNING
    return FAILED if self.failure(job) else LEFT

  def claim(self, job: Job) -> IO | None:
    """Return the open lock of a job; None if another process holds it. Closing it releases it."""
    file = self._open(job)
    for pause in (0.0, 0.05, 0.2):  # another process may only be looking at it
      time.sleep(pause)
      with contextlib.suppress(BlockingIOError):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return file
    file.close()
    return None

  def ended(self, job: Job, seconds: float, code: int, failed: str | None = None) -> None:
    """Note an attempt, and the reason if the job failed."""
    state = self._state(job)
    attempt = {'ended': time.strftime('%Y-%m-%dT%H:%M:%S%z'), 'seconds': round(seconds, 1)}
    state['attempts'].append(attempt | {'code': code})
    if failed is not None:
      state['failed'] = failed
    self._write(job, state)

  def kills(self, job: Job) -> int:
    """Return how often a run died by a signal that the sweep did not send."""
    return sum(attempt.get('code', 0) < 0 for attempt in self._state(job)['attempts'])

  def retry(self) -> None:
    """Forget that jobs failed."""
    for job in self.jobs:
      state = self._state(job)
      if state.pop('failed', None):
        state['attempts'] = [a | {'code': abs(a['code'])} for a in state['attempts']]
        self._write(job, state)

  def renew(self, job: Job) -> None:
    """Forget what is known of a job that had other settings, unless it runs."""
    settings = identity.fingerprint(job.decisive)
    if self._state(job).get('settings') == settings:
      return
    if claim := self.claim(job):
      with claim:
        self.result(job).unlink(missing_ok=True)
        shutil.rmtree(self.run_folder(job), ignore_errors=True)
        self._write(job, {'attempts': [], 'settings': settings})

  def _open(self, job: Job) -> IO:
    path = self._file(job, 'lock')
    path.parent.mkdir(parents=True, exist_ok=True)
    return open(path, 'a+b')  # NFS has shared locks only for files that may be read

  def _locked(self, job: Job) -> bool:
    if not self._file(job, 'lock').exists():
      return False
    with self._open(job) as file:
      try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
      except BlockingIOError:
        return True
    return False

  def _state(self, job: Job) -> dict:
    """Return the attempts of a job; a damaged file counts as none."""
    try:
      state = json.loads(self._file(job, 'json').read_text())
      if isinstance(state['attempts'], list):
        return state
    except (OSError, ValueError, KeyError, TypeError):
      pass
    return {'attempts': []}

  def _write(self, job: Job, state: dict) -> None:
    safe.write_atomic(self._file(job, 'json'), json.dumps(state, indent=1) + '\n')

  def _file(self, job: Job, suffix: str) -> pathlib.Path:
    return self.folder / 'queue' / f'{job.name}.{suffix}'
