"""The queue and its worker, with runs that are one line of Python."""

import fcntl
import json
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time

import pytest

from ensdistill.sweep import slots, work
from ensdistill.sweep.jobs import Job, Kind
from ensdistill.sweep.queue import DONE, FAILED, KILLS, LEFT, RUNNING, Queue
from ensdistill.sweep.work import Worker


class _Config:
  """The settings of a job that never trains."""

  seed = 0

  def to_dict(self):
    return {'scores': 1}

  def copy_and_resolve_references(self):
    return self

  def update_from_flattened_dict(self, numbers):
    pass


def jobs(count):
  kind = Kind('kd', 'digits', '', {}, _Config())
  return [Job(kind, teacher, 0) for teacher in range(count)]


def worker(queue, code, parallel=1, said=None):
  """A worker whose runs execute `code`, with N the number of the teacher."""
  said = [] if said is None else said

  def command(job):
    return [sys.executable, '-c', f'N = {job.teacher}\n{code}']

  def record(job, seconds):
    return {'format': 1, 'method': 'kd', 'teacher': job.teacher, 'config': {}, 'rows': [{}]}

  places = [slots.Slot(str(i), {}) for i in range(parallel)]
  return Worker(
    queue, places, command=command, record=record, describe=lambda j, r: 'done', say=said.append
  )


def test_a_failed_run_does_not_stop_the_rest(tmp_path):
  queue, said = Queue(tmp_path, jobs(3)), []
  code = 'import sys\nprint("ensdistill: bad luck") if N == 1 else None\nsys.exit(N == 1)'
  worker(queue, code, said=said).work()
  first, second, third = queue.jobs
  assert queue.states() == {first: DONE, second: FAILED, third: DONE}
  assert queue.failure(second) == 'bad luck' and any('bad luck' in line for line in said)
  worker(queue, 'pass').work()
  assert queue.states()[second] == FAILED  # not tried again
  queue.retry()
  worker(queue, 'pass').work()
  assert set(queue.states().values()) == {DONE}


def test_a_killed_run_is_continued_and_fails_the_third_time(tmp_path):
  queue = Queue(tmp_path, jobs(1))
  (job,) = queue.jobs
  for attempt in range(KILLS):
    assert queue.states()[job] == LEFT
    worker(queue, 'import os, signal\nos.kill(os.getpid(), signal.SIGKILL)').work()
    assert queue.kills(job) == attempt + 1
  assert queue.states()[job] == FAILED
  queue.retry()
  assert queue.kills(job) == 0
  assert queue.states()[job] == LEFT


def test_a_slice_stops_a_run_which_the_next_one_continues(tmp_path):
  queue = Queue(tmp_path, jobs(2))
  began = time.monotonic()
  outcome = worker(queue, 'import time\ntime.sleep(60)').work(seconds=0.5)
  assert outcome.out_of_time and time.monotonic() - began < 20
  assert list(queue.states().values()) == [LEFT, LEFT]
  assert not queue.kills(queue.jobs[0])
  assert worker(queue, 'pass').work(seconds=60) == (None, False)
  assert set(queue.states().values()) == {DONE}


def test_runs_that_the_sweep_kills_itself_have_not_failed(tmp_path, monkeypatch):
  monkeypatch.setattr(work, 'GRACE', 0.2)
  queue = Queue(tmp_path, jobs(1))
  code = 'import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n'
  for _ in range(KILLS):
    assert worker(queue, code + 'time.sleep(60)').work(seconds=1).out_of_time
  assert queue.states() == {queue.jobs[0]: LEFT}


def test_jobs_that_others_look_at_are_claimed(tmp_path):
  queue = Queue(tmp_path, jobs(1))
  (job,) = queue.jobs
  with queue._open(job) as looking:
    fcntl.flock(looking, fcntl.LOCK_SH)
    assert queue.states() == {job: LEFT}  # who looks does not see others who look
    threading.Timer(0.02, looking.close).start()
    claim = queue.claim(job)
    assert claim
    claim.close()


def test_what_is_known_of_other_settings_is_forgotten(tmp_path):
  queue = Queue(tmp_path, jobs(1))
  (job,) = queue.jobs
  queue.renew(job)
  worker(queue, 'pass').work()
  queue.renew(job)
  assert queue.states() == {job: DONE}
  other = Queue(tmp_path, jobs(1))
  (job,) = other.jobs
  job.kind.config.to_dict = lambda: {'scores': 2}
  other.renew(job)
  assert other.states() == {job: LEFT} and other.seconds(job) == 0


def test_a_signal_stops_the_runs(tmp_path):
  queue = Queue(tmp_path, jobs(1))
  code = f'import os, signal, time\nos.kill({os.getpid()}, signal.SIGTERM)\ntime.sleep(60)'
  outcome = worker(queue, code).work()
  assert outcome.signal == signal.SIGTERM and set(queue.states().values()) == {LEFT}
  assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_every_job_is_claimed_once(tmp_path):
  """What another process holds is running, and is left alone."""
  queue = Queue(tmp_path, jobs(2))
  first, second = queue.jobs
  hold = (
    'import fcntl, sys, time\n'
    f'file = open({str(queue.log(first).with_suffix(".lock"))!r}, "ab")\n'
    'fcntl.flock(file, fcntl.LOCK_EX)\nprint("held", flush=True)\ntime.sleep(60)'
  )
  queue.log(first).parent.mkdir()
  with subprocess.Popen([sys.executable, '-c', hold], stdout=subprocess.PIPE) as other:
    assert other.stdout.readline() == b'held\n'
    assert queue.states() == {first: RUNNING, second: LEFT}
    worker(queue, 'pass').work()
    assert queue.states() == {first: RUNNING, second: DONE}
    other.kill()
  assert queue.states()[first] == LEFT


def test_runs_hold_their_claims_when_the_sweep_is_killed(tmp_path):
  queue = Queue(tmp_path, jobs(1))
  (job,) = queue.jobs
  claim = queue.claim(job)
  run = subprocess.Popen([sys.executable, '-c', 'input()'], stdin=subprocess.PIPE,
                         pass_fds=[claim.fileno()])  # fmt: skip
  claim.close()
  assert queue.claim(job) is None
  run.communicate(b'\n')
  again = queue.claim(job)
  assert again
  again.close()


def test_several_at_once_share_no_teacher_where_they_can(tmp_path):
  kind = Kind('kd', 'digits', '', {}, _Config())
  queue = Queue(tmp_path, [Job(kind, t, s) for t in (0, 1) for s in (0, 1)])
  said = []
  worker(queue, 'import time\ntime.sleep(.3)', parallel=2, said=said).work()
  started = [line for line in said if line.startswith('starts')]
  assert 'teacher 0, seed 0' in started[0] and 'teacher 1, seed 0' in started[1]
  assert set(queue.states().values()) == {DONE}


def test_a_damaged_state_counts_as_none(tmp_path):
  queue = Queue(tmp_path, jobs(1))
  (job,) = queue.jobs
  queue.ended(job, 3.0, 1, 'no luck')
  path = pathlib.Path(tmp_path / 'queue' / f'{job.name}.json')
  assert json.loads(path.read_text())['failed'] == 'no luck'
  path.write_text('{')
  assert queue.states()[job] == LEFT and queue.seconds(job) == 0


@pytest.mark.parametrize(
  'parallel,environment,names',
  [
    (None, {'JAX_PLATFORMS': 'cpu', 'CUDA_VISIBLE_DEVICES': '0,1'}, ['']),
    (None, {'CUDA_VISIBLE_DEVICES': '2,5'}, ['GPU 2', 'GPU 5']),
    (3, {'CUDA_VISIBLE_DEVICES': '2,5'}, ['GPU 2', 'GPU 5', 'GPU 2']),
    (1, {'CUDA_VISIBLE_DEVICES': '2,5'}, ['']),
    (None, {'CUDA_VISIBLE_DEVICES': '-1'}, ['']),
    (None, {'CUDA_VISIBLE_DEVICES': '2,-1,5'}, ['']),
  ],
)
def test_slots(parallel, environment, names):
  assert [slot.name for slot in slots.make(parallel, environment)] == names


def test_runs_on_a_cpu_share_its_cores():
  cores = os.sched_getaffinity(0)
  found = slots.make(2, {'JAX_PLATFORMS': 'cpu'})
  assert frozenset().union(*(slot.cores for slot in found)) == cores


def test_runs_on_a_tpu_host_have_a_chip_each(monkeypatch, tmp_path):
  for number in range(4):
    (tmp_path / f'accel{number}').touch()
  monkeypatch.setattr(slots, '_DEVICES', tmp_path)
  found = slots.make(4, {})
  assert [slot.name for slot in found] == [f'TPU chip {i}' for i in range(4)]
  assert [slot.environment['TPU_VISIBLE_CHIPS'] for slot in found] == list('0123')
  assert found[0].environment['TPU_CHIPS_PER_PROCESS_BOUNDS'] == '1,1,1'
  assert slots.make(1, {}) == slots.make(None, {}) == [slots.Slot('', {})]  # all chips
  assert slots.make(4, {'JAX_PLATFORMS': 'cpu'})[0].name.startswith('cores')
  assert slots.make(5, {})[0].name.startswith('cores')
